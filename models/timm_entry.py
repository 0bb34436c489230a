"""Puts our model names into timm's registry, whichever of the two packages is imported first."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from config import step_names
from models import registry

TIMM_ARGUMENTS = frozenset({"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "checkpoint_path"})
"""What timm passes to every entry point; there are no weights to download, so these are dropped."""


def install() -> None:
    """Registers the names now if timm is there, else at the moment timm is imported."""
    if "timm" in sys.modules:
        register_all()
    else:
        sys.meta_path.insert(0, _OnTimmImport())


def register_all() -> None:
    """Registers one entry point a model name; called once timm can be imported."""
    from timm.models import register_model

    aliases = (alias for alias, name in step_names.ALIASES.items() if name in registry.MODELS)
    for name in (*registry.MODELS, *aliases):
        register_model(_entry(name))


def _entry(name: str) -> Callable[..., Any]:
    def build(**keys: Any) -> Any:
        from models.build import create_model

        given = {key: value for key, value in keys.items() if key not in TIMM_ARGUMENTS}
        return create_model({**given, "model": name})

    build.__name__ = build.__qualname__ = name
    build.__module__ = __name__
    setattr(sys.modules[__name__], name, build)  # timm looks the function up in its module
    return build


class _OnTimmImport(importlib.abc.MetaPathFinder):
    """Finds timm where it is, to register our names once it has loaded; then it steps aside."""

    is_asking = False

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != "timm" or self.is_asking:
            return None
        self.is_asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.is_asking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisterAfter(spec.loader, self)
        return spec


class _RegisterAfter(importlib.abc.Loader):
    """timm's own loader, but for what follows the first import."""

    def __init__(self, loader: Any, finder: _OnTimmImport) -> None:
        self.loader, self.finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self.loader.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        if self.finder in sys.meta_path:
            sys.meta_path.remove(self.finder)
        register_all()
