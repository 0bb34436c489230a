"""Generator of docs/train-file.md from the keys' definitions: `python -m trainers.document > docs/train-file.md`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from config import step_files, step_names
from config.datasets import DATASETS
from config.step_files import StepFile
from models import registry
from models.config import ModelConfig
from trainers.config import TrainConfig

NAMED = {"dataset": "data set", "node_type": "neuron", "embed_layer": "stem"}
KNOWN_NAMES: dict[str, Mapping[str, object]] = {
    "model": registry.MODELS, "dataset": DATASETS, "node_type": registry.NEURONS, "embed_layer": registry.STEMS,
}  # fmt: skip
"""Registered names by key."""

INTRODUCTION = """\
# The train file

One flat YAML file describes one training. Its keys are those of the BrainCog/STEP benchmark, whose files (one file, or
the older pair) load unchanged. `python -m trainers.run --config FILE` trains a file,
`python -m trainers.run --model-config FILE --train-config FILE` a pair. A missing key takes the data set's value, then
the published value of the named model, then the default given here. Unknown and duplicate keys are errors; `5e-4` is a
number, `true` is not. `none`, `null` and an empty value mean the same where the table lists none without quotes. A
key that the chosen neuron lacks gives a warning.

`epochs` is the length of the whole training, `cooldown_epochs` included. The output is read after `read_step` of the
`step` trained timesteps. Weights to start from: [fine-tuning.md](fine-tuning.md).
"""

NOTES = """\
## The loss of each step

By default the loss is that of the mean output over the `step` trained steps. `tet: w` trains with temporal efficient
training (Deng et al., ICLR 2022): `(1 - w) mean_t L(o_t, y) + w mean((o - 1)^2)` over the outputs o of all trained
steps, with L the same cross-entropy with `smoothing`, `mixup` and `cutmix` as without it. The authors of TET and of the
Spike-driven Transformer use w = 0.001; `tet: 0` is the mean of the steps' losses alone. Each step then learns to
classify by itself, which helps where the output is read early (`read_step`, the read-outs of a search). The reported
validation `loss` stays the cross-entropy of the mean output. It works for all models and neurons, in fused and in
data-parallel training. The benchmark's `tet_loss` has no counterpart in its models, which average over time before the
head; its meaning is `tet: 0`.

## Fewer tokens

`token_keep: 0.7` updates seven tenths of the tokens (rounded up) in each block; the others pass the block unchanged, so
every token reaches the head. Updated are the tokens that differ most from their neighbours and from the step before,
summed over the steps and channels, after TP-Spikformer (Wei et al., ICLR 2026); `models/parts/tokens.py` has the
formula. There are no parameters: the key can be searched, trained with, or set for trained weights
(`python -m trainers.run --config x.yml --set token_keep=0.7 --eval checkpoint.pt`). `spikes`, `synops`, `macs` and
`energy_mj` are those of the updated tokens. So are the neurons of `spike_rate`, which therefore barely falls: search
`token_keep` against `spikes`, `synops` or `energy_mj`. The score itself, a sum of differences, is free like shortcuts.

It needs blocks of 1x1 layers: Spikformer, Spikingformer, Spike-driven Transformer, QKFormer, and Max-Former without its
depthwise convolutions, with the attentions SSA, SDSA, QKTA, QKCA, random or identity. All steps choose the tokens, so
the output is read at `step` only. Everything else is refused with the reason.

## Quantised weights

`quant_bits: 4` trains and evaluates with weights of 4 bits (2 to 16) in all convolutions, grouped products and heads:
whole multiples, `-(2^(b-1) - 1)` to `2^(b-1) - 1`, of one step per output channel. The trained weights themselves
stay floats, and gradients pass the rounding. Each channel's largest weight, `largest level x step`, is learned with
the gradient of LSQ (Esser et al., ICLR 2020); it starts at the share of the largest weight that has the least squared
error. QSD-Transformer keeps its published form: learned steps, and one more negative level. Batch norm only rescales
a channel's step, so these whole numbers are the weights of an integer machine, without a second rounding.

It works in all models, in data-parallel training and with `model_ema`, and can be searched
(`quant_bits: {choice: [none, 4, 8]}`, `{int: [4, 8]}`). Such trainings are not fused. A trained net is fine-tuned with
few bits from its floats: [fine-tuning.md](fine-tuning.md#fewer-bits). Spikes and operations are counted as with
floats; `energy_mj` too, as its constants are those of 32 bits. Without the key, checkpoints have the published names;
with it, there is one more tensor per layer, `quantizer.bound`.

## Averaged weights

`model_ema: true` keeps a moving average (EMA) of the weights over the optimizer steps, and trains as without it. The
average is what each epoch measures, what checkpoints hold as the model, what the health checks of an epoch see, and
what `results.export --checkpoint`, `--eval` and `--test` use; its batch-norm statistics are re-estimated like those of
any other model. Checkpoints also hold the trained weights, to resume. Step n keeps the share
`min(model_ema_decay, (1 + n) / (10 + n))` of the average, so that the first epochs, by which a search ranks trials, are
measured with recent weights; the benchmark keeps `model_ema_decay` from the first step on. The two agree after
`9 / (1 - model_ema_decay)` steps. In a space file `model_ema_decay` stands under the choice that has it:
`model_ema: {choice: {false: , true: {model_ema_decay: {uniform: [0.99, 0.9999]}}}}`.
"""


BENCHMARK = """\
## Files of the benchmark

The 53 files below `cls/configs` at the benchmark's HEAD; the older pairs (`spikformer`, `sdt`, `spikingformer`,
`qkformer`, `tim`, each with its `train.yml`) load. Names that other codes use (`time_steps`, `T`, `layer`, `dim`,
`input_size`, ...) are refused with the key that is meant. Keys that the benchmark never reads give a warning.
Files with its spellings mean its version of a model (`variant: step`), with a warning unless they have the key.
`sequence_length` is read there by the stem `sequential_embed`; here it follows from the data set. Three equal values of
`mean` or `std` stand for the one channel of grey images. Detection, segmentation and point clouds are another project.

Neurons of the same name can differ. The benchmark's `ILIFNode` counts to D = 2 (here 4), and its `NILIFNode` rounds
after the division by D, so that it emits only 0 and 1; here it emits k / D as in its paper. Its
`ComplementaryLIFNeuron` always has threshold 1, its `GLIFTorch` fixed gates of 0 or 1. The gate of its `HDLIFNode`
mixes the samples of a batch; here it does so with `legacy_batch_leak: true` only. `EIFNode` is equal.

No key of the benchmark selects an encoding. With `encoding: rate`, `phase` or `ttfs` images reach the network as spikes
made from pixels in 0..1: `mean` and `std` have no effect then. The noise of `rate` is new at each training step and
fixed in evaluation. A pixel of exactly 1 has no spike in `phase`, and with `step` below 8 only its upper bits are seen.
The first layer then counts synaptic operations, one for each spike and weight, and no MACs.
"""


def lines() -> Iterator[str]:
    """Yields the page, line by line."""
    yield INTRODUCTION
    model = ModelConfig.model_fields
    for title, keys in (
        ("Model and neuron", [key for key in TrainConfig.model_fields if key in model]),
        ("Data and training", [key for key in TrainConfig.model_fields if key not in model]),
    ):
        yield f"## {title}\n"
        yield "| key | values | default | meaning |"
        yield "| --- | --- | --- | --- |"
        for key in keys:
            info = TrainConfig.model_fields[key]
            default = "from data set or model" if info.is_required() else f"`{_plain(info.default)}`"
            yield f"| `{key}` | {_values(info)} | {default} | {info.description} |"
        yield ""
    yield NOTES
    yield BENCHMARK
    yield "| files | here |"
    yield "| --- | --- |"
    yield from _benchmark_rows()


def status(file: StepFile) -> str:
    """Returns `loads`, with what differs from the benchmark, or `refused` with the reason."""
    if file.refused:
        return f"refused: {file.refused}"
    for key, name in file.names.items():
        known = KNOWN_NAMES[key]
        if step_names.DATASET_ALIASES.get(name, name) not in known and step_names.canonical_name(name) not in known:
            return f"refused: no {NAMED.get(key, key)} {name}"
    return f"loads; {file.note}" if file.note else "loads"


def _benchmark_rows() -> Iterator[str]:
    """Yields a row for the files of each folder that have the same status."""
    rows: dict[tuple[str, str], list[str]] = {}
    for path, file in step_files.FILES.items():
        folder, _, name = path.partition("/")
        rows.setdefault((folder, status(file)), []).append(name)
    for (folder, text), names in rows.items():
        yield f"| {folder}/{', '.join(names)} | {text} |"


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value) if isinstance(value, tuple) else value)


def _values(info: Any) -> str:
    """Returns the types and bounds of a key as text."""
    words = " or ".join(dict.fromkeys(_types(info.annotation)))
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [
        f"{sign} {getattr(rule, name):g}"
        for rule in info.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]
    return f"{words} {', '.join(bounds)}".rstrip()


def _types(annotation: Any) -> Iterator[str]:
    """Yields the alternatives of an annotation as text."""
    names = {int: "integer", float: "number", bool: "true/false", str: "text", type(None): "none"}
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        yield from (f"`{part}`" for part in parts)
    elif annotation in names or origin is tuple:
        yield names.get(annotation, "list")
    else:
        for part in parts[:1] if origin is Annotated else parts:
            yield from _types(part)


if __name__ == "__main__":
    print("\n".join(lines()).rstrip())
