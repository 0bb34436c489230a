"""Registration of our model names in timm, whichever of the two packages is imported first."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from config import step_names
from config.errors import ConfigError
from models import registry

TIMM_ARGUMENTS = frozenset({"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "checkpoint_path"})
"""Arguments that timm passes to every entry point; they are dropped, as there are no weights to download."""


def install() -> None:
    """Registers the names now if timm is imported, else right after its import."""
    if "timm" in sys.modules:
        register_all()
    else:
        sys.meta_path.insert(0, _TimmFinder())


def register_all() -> None:
    """Registers one entry point per model name and alias; timm must be importable."""
    from timm.models import register_model

    aliases = (alias for alias, name in step_names.ALIASES.items() if name in registry.MODELS)
    for name in (*registry.MODELS, *aliases):
        register_model(_entry(name))


def _entry(name: str) -> Callable[..., Any]:
    def build(**keys: Any) -> Any:
        from models.build import create_model

        other = keys.get("model", name)
        if step_names.canonical_name(other) != step_names.canonical_name(name):
            raise ConfigError(f"model: must be {name}, the model to create (got {other!r})")
        return create_model({**{k: v for k, v in keys.items() if k not in TIMM_ARGUMENTS}, "model": name})

    build.__name__ = build.__qualname__ = name
    build.__module__ = __name__
    setattr(sys.modules[__name__], name, build)  # timm looks the function up in its module
    return build


class _TimmFinder(importlib.abc.MetaPathFinder):
    """Finds timm through the other finders, and registers our names at the end of its import."""

    is_searching = False

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        if name != "timm" or self.is_searching:
            return None
        self.is_searching = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.is_searching = False
        if spec is not None and spec.loader is not None:
            self._register_after(spec.loader)
        return spec

    def _register_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register_all()

        loader.exec_module = exec_module
