"""Entries of the catalogue: one for each registered model, part, neuron, surrogate function, code and loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from config.errors import InfeasibleError
from models import registry
from models.catalogue import docstrings, reads
from models.catalogue.cost import HOST, Cost, at_size, cost
from models.catalogue.docstrings import Facts
from models.catalogue.usage import default_in, usable_in
from models.config import ModelConfig
from models.feasibility import check_feasible
from models.literature import DATASETS, published_sizes

LOSSES = "trainers.optim:make_loss"
"""Whose docstring lists the losses; by path, as `models` imports nothing of the training."""


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue."""

    kind: str
    name: str
    paper: str
    formula: str
    keys: tuple[str, ...]
    """Train-file keys that it reads, beyond those that name it."""
    default_in: tuple[str, ...] = ()
    """Families with it by default; of a model, the data sets with published results."""
    usable_in: tuple[str, ...] = ()
    """Families with a model that it can be used in."""
    cost: Cost | None = None


@dataclass(frozen=True)
class Kind:
    """A section of the catalogue: the values of one train-file key."""

    key: str
    names: Callable[[], Iterable[str]]
    facts: Callable[[str], Facts]
    keys: Callable[[str], Iterable[str]] | None = None
    """The keys that a value reads, where its docstring does not list them."""
    layers: tuple[str, ...] = ()
    """Prefixes of the layers that it consists of in the host model; their operations are its cost."""
    with_keys: Mapping[str, Any] = field(default_factory=dict)
    """Keys that its values need."""

    def entry(self, kind: str, name: str) -> Entry:
        """Returns the entry of one value."""
        facts = self.facts(name)
        keys = facts.keys if self.keys is None else tuple(self.keys(name))
        used = default_in(self.key, name), usable_in(self.key, name, **self.with_keys)
        return Entry(kind, name, facts.paper, facts.formula, keys, *used, self._cost(name))

    def _cost(self, name: str) -> Cost | None:
        if not self.layers:
            return None
        config = at_size(HOST, depths=1, **{self.key: name})
        try:
            check_feasible(config)
        except InfeasibleError:
            return None
        return cost(config, self.layers)


def kinds() -> tuple[str, ...]:
    """Returns the kinds of entries, in the order of the catalogue."""
    return ("model", *PARTS, "loss")


def entries(kind: str) -> Iterator[Entry]:
    """Yields the entries of a kind."""
    if kind == "model":
        yield from map(_model, registry.MODELS)
    elif kind == "loss":
        yield from map(_loss, docstrings.table(registry.load(LOSSES).__doc__ or ""))
    else:
        yield from (PARTS[kind].entry(kind, name) for name in PARTS[kind].names())


def _model(name: str) -> Entry:
    preset = registry.MODELS[name]
    registry.load(preset.path)
    facts = docstrings.of_family(preset.path.split(":")[0])
    sizes = [size for size in published_sizes() if size["model"] == name]
    datasets = tuple(dict.fromkeys(DATASETS[size["dataset"]] for size in sizes if size["accuracy"] is not None))
    keys = tuple(key for key in ModelConfig.model_fields if key not in preset.lacks and key != "model")
    paper = sizes[0]["paper"] if sizes else facts.paper
    return Entry("model", name, paper, f"{facts.formula} {_parts(name)}", keys, datasets, cost=cost(at_size(name)))


def _parts(model: str) -> str:
    config, lacks = ModelConfig.model_validate({"model": model}), registry.MODELS[model].lacks
    named = {"Stem": "embed_layer", "attention": "attn_layer", "shortcuts": "residual", "neuron": "node_type"}
    shown = (f"{part} {_named(getattr(config, key))}" for part, key in named.items() if key not in lacks)
    text = ", ".join(shown)
    return f"{text[:1].upper()}{text[1:]}."


def _named(value: str | Sequence[str]) -> str:
    names = (value,) if isinstance(value, str) else dict.fromkeys(value)
    return ", ".join(f"`{name}`" for name in names)


def _loss(name: str) -> Entry:
    facts = docstrings.of_row(registry.load(LOSSES).__doc__, name)
    return Entry("loss", name, facts.paper, facts.formula, facts.keys)


def _of_class(paths: Mapping[str, str]) -> Callable[[str], Facts]:
    return lambda name: docstrings.of_part(registry.load(paths[name]))


def _of_table(module: str, item: str | None = None) -> Callable[[str], Facts]:
    """Returns the facts by the table in the docstring of a module, or of one of its functions."""

    def facts(name: str) -> Facts:
        found = registry.load(f"{module}:{item or '__doc__'}")
        return docstrings.of_row(found if item is None else found.__doc__, name)

    return facts


def _choices(key: str) -> Callable[[], tuple[str, ...]]:
    return lambda: get_args(ModelConfig.model_fields[key].annotation)


def _sorted_keys(table: Mapping[str, frozenset[str]]) -> Callable[[str], list[str]]:
    return lambda name: [key for key in ModelConfig.model_fields if key in table[name]]


def _surrogate_keys(name: str) -> tuple[str, ...]:
    return () if name in registry.WITHOUT_ALPHA else ("alpha",)


PARTS: dict[str, Kind] = {
    "attention": Kind(
        "attn_layer",
        lambda: registry.ATTENTIONS,
        _of_class(registry.ATTENTIONS),
        _sorted_keys(registry.ATTENTION_KEYS),
        ("blocks.0.attn.",),
    ),
    "mlp": Kind(
        "mlp_layer", lambda: registry.MLPS, _of_class(registry.MLPS), lambda name: reads.mlp_keys(name),
        ("blocks.0.mlp.",),
    ),
    "stem": Kind(
        "embed_layer", lambda: registry.STEMS, _of_class(registry.STEMS), lambda name: reads.stem_keys(name),
        ("stem.",),
    ),
    "position": Kind(
        "pos_layer", _choices("pos_layer"), _of_table("models.parts.stems", "position"), layers=("stem.position.",)
    ),
    "residual": Kind("residual", _choices("residual"), _of_table("models.parts.blocks")),
    "head": Kind(
        "head_layer", _choices("head_layer"), _of_table("models.parts.readouts"), layers=("readout.", "head")
    ),
    "neuron": Kind(
        "node_type", lambda: registry.NEURONS, _of_class(registry.NEURONS), _sorted_keys(registry.NEURON_KEYS)
    ),
    "surrogate": Kind(
        "act_function", lambda: registry.SURROGATES, _of_table("models.neurons.surrogates"), _surrogate_keys
    ),
    "encoding": Kind(
        "encoding", _choices("encoding"), _of_table("models.parts.encoding"), layers=("stem.chain.convs.0",)
    ),
    "exit_rule": Kind(
        "exit_rule", lambda: registry.EXIT_RULES, _of_table("models.exits.rules"), with_keys={"exit_threshold": 0.9}
    ),
}  # fmt: skip
"""The kinds of parts, each a train-file key whose values are its entries."""
