"""Train file: the flat YAML file that describes one training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from config import messages, step_names, strict_yaml
from config.datasets import pixel_range
from config.document import Document
from config.errors import ConfigError, InfeasibleError
from config.optimizers import known_optimizer
from config.step_names import ALIASED_KEYS, DATASET_ALIASES, canonical_name
from config.strict_yaml import override
from models import registry
from models.config import ModelConfig, Unit, read_none
from models.feasibility import check_feasible, exit_obstacle
from models.train_file import read_benchmark_model
from trainers.augment_policy import EVENT_POLICY, parse_policy
from trainers.datasets import (
    ADDS_POLARITIES,
    DATASETS,
    EMBEDDED,
    ES_IMAGENET_MOVES,
    EVENTS,
    FILES_OF,
    IMAGES_ONLY,
    POLARITY_SUM,
    SOUND,
    STREAMED,
    TRAIN_IMAGES,
)


def _positive(value: tuple[float, ...]) -> tuple[float, ...]:
    if min(value, default=0.0) <= 0.0:
        raise ValueError(f"must be > 0 for every channel (got {list(value)})")
    return value


def _low_high(value: tuple[float, ...]) -> tuple[float, ...]:
    if len(value) != 2 or not 0.0 < value[0] <= value[1]:
        raise ValueError(f"must be [low, high] with 0 < low <= high (got {list(value)})")
    return value


def _known_policy(value: str) -> str:
    parse_policy(value)
    return value


def _known_data_set(value: object) -> object:
    name = step_names.DATASET_ALIASES.get(value, value) if isinstance(value, str) else value
    if not isinstance(name, str) or name not in DATASETS:
        raise ValueError(step_names.unknown("data set", value, DATASETS))
    return name


Floats = Annotated[tuple[float, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]
Deviations = Annotated[Floats, AfterValidator(_positive)]
Span = Annotated[Floats, AfterValidator(_low_high)]
Policy = Annotated[str, AfterValidator(_known_policy)]
Optimizer = Annotated[str, AfterValidator(known_optimizer)]
WeightsFile = Annotated[str, Field(min_length=1)]
DataSet = Annotated[str, BeforeValidator(_known_data_set)]
Rate = Annotated[float, Field(ge=0.0, le=10.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
CudaIndex = Annotated[int, Field(ge=0)]
RECIPES = Path(__file__).parent / "recipes"
PAIR_EPOCHS = 300
"""The benchmark's default for the older pair of files."""


class TrainConfig(ModelConfig):
    """Config of one training: data, model, neuron, optimization. Frozen; unknown keys are errors."""

    dataset: DataSet = Field(description="registered name of the data set")
    data_dir: str | None = Field(None, description="folder that holds the data set's files, see docs/data.md")
    event_size: int | None = Field(
        None, ge=4, le=1024, description="events: another name of img_size; both must be equal if given"
    )
    mean: Floats = Field(
        description="mean of each channel, in 0..1 (0 for events, which count by value); the colour under transparency"
    )
    std: Deviations = Field(description="standard deviation of each channel, in 0..1 (1 for events)")
    crop_pct: float = Field(1.0, gt=0.0, le=1.0, description="share of the resized image that is kept in evaluation")
    scale: Span = Field((1.0, 1.0), description="area range of the random resized crop; [1, 1] switches it off")
    ratio: Span = Field((1.0, 1.0), description="aspect range of the random resized crop")
    hflip: float = Field(0.5, ge=0.0, le=1.0, description="probability of a horizontal flip")
    color_jitter: float = Field(0.0, ge=0.0, le=1.0, description="strength of colour jitter; not used with aa")
    interpolation: Literal["bilinear", "bicubic", "nearest"] = Field("bicubic", description="resizing for evaluation")
    train_interpolation: Literal["bilinear", "bicubic", "nearest", "random"] = Field(
        "bicubic", description="resampling of the training augmentations"
    )
    aa: Policy | None = Field(
        None, description="augmentation policy: `rand-m9-n1-mstd0.4-inc1` for images, `snn-wide` for events"
    )
    reprob: float = Field(0.0, ge=0.0, le=1.0, description="probability of random erasing")
    remode: Literal["const", "rand", "pixel"] = Field("const", description="fill of random erasing")
    mixup: float = Field(0.0, ge=0.0, le=10.0, description="alpha of mixup; 0 switches it off")
    cutmix: float = Field(0.0, ge=0.0, le=10.0, description="alpha of cutmix; 0 switches it off")
    mixup_prob: float = Field(1.0, ge=0.0, le=1.0, description="probability that a batch is mixed")
    mixup_switch_prob: float = Field(0.5, ge=0.0, le=1.0, description="probability of cutmix if both are on")
    mixup_mode: Literal["batch", "pair", "elem"] = Field("batch", description="mixup factor per batch, pair or element")
    mixup_off_epoch: int = Field(0, ge=0, description="epoch from which mixup is off; 0 keeps it on")
    smoothing: Unit = Field(0.1, description="label smoothing")
    distort: bool = Field(False, description="digits: random rotation, scale, shift and noise; fixed for validation")
    val_fraction: Unit = Field(0.1, description="share of the training data kept for validation, by class")
    split_seed: Seed = Field(0, description="seed of the validation split and of train_images, independent of seed")
    train_images: int | None = Field(
        None, ge=1, description="images to train on, a part by class of those that validation leaves; none = all"
    )

    initial_checkpoint: WeightsFile | None = Field(
        None, description="weights file from which the training starts, see docs/fine-tuning.md"
    )
    epochs: int = Field(ge=1, le=100_000, description="length of the training, cooldown included")
    batch_size: int = Field(128, ge=1, description="images per optimization step")
    val_batch_size: int = Field(256, ge=1, description="images per evaluation batch; by default batch_size if given")
    opt: Optimizer = Field("adamw", description="optimizer, by timm's name")
    lr: Rate = Field(5e-4, description="learning rate after warm-up")
    min_lr: Rate = Field(1e-5, description="learning rate at the end")
    sched: Literal["cosine", "step", "poly", "tanh"] = Field(
        "cosine",
        description="learning-rate schedule, by timm's name; poly decays linearly, step divides the rate by 10 every "
        "90 epochs and ignores min_lr and cooldown_epochs",
    )
    weight_decay: Rate = Field(0.06, description="weight decay; none on biases and norms")
    warmup_epochs: int = Field(0, ge=0, description="epochs of linear warm-up")
    warmup_lr: Rate = Field(1e-5, description="learning rate at the start of the warm-up")
    cooldown_epochs: int = Field(0, ge=0, description="last epochs, at min_lr")
    clip_grad: float | None = Field(None, gt=0.0, description="maximum norm of the gradient")
    amp: bool = Field(True, description="mixed precision, on CUDA only")
    compile: bool = Field(
        False, description="compiled neurons on the CPU: faster steps after some seconds of compiling"
    )
    tet: float | None = Field(
        None, ge=0.0, le=1.0, description="loss of each step's output (TET), this share of it a pull to 1; none = off"
    )
    model_ema: bool = Field(
        False, description="measure, save and export the moving average of the weights over the steps"
    )
    model_ema_decay: float = Field(
        0.9998, ge=0.0, lt=1.0, description="share of the average that a step keeps, at most"
    )
    spike_penalty: float = Field(0.0, ge=0.0, le=100.0, description="weight of the mean spike rate in the loss")
    energy_rule: Literal["default", "published"] = Field(
        "default", description="rule of energy_mj: from macs and synops, or as in the published tool"
    )
    measure_int8: bool = Field(
        False, description="after the last epoch, also measure accuracy_int8: the net as 8-bit integers, docs/chip.md"
    )
    seed: Seed = Field(42, description="seed of initialization, data order and augmentation")
    workers: int = Field(4, ge=0, description="loader processes, for data sets streamed from disk")
    threads: int = Field(1, ge=1, le=1024, description="CPU threads of the training")
    device: CudaIndex | Literal["cpu", "cuda"] | None = Field(
        None, description="CUDA index, `cpu` or `cuda`; by default a GPU if available"
    )
    log_interval: int = Field(50, ge=1, description="batches between two lines of progress")
    output: str = Field("runs/train", description="folder under which runs are written")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_data_set(cls, data: Any) -> Any:
        """Fills missing keys from the data set; the base class then fills them from the model's published values."""
        if not isinstance(data, Mapping):
            return data
        data = read_none(data, cls)
        if data.get("initial_checkpoint") == "":  # as published files write it
            data["initial_checkpoint"] = None
        merged = {**DATASETS.get(str(data.get("dataset")), {}), **data}
        if data.get("event_size") is not None and "img_size" not in data:
            merged["img_size"] = data["event_size"]
        return {**merged, "val_batch_size": merged.get("val_batch_size", merged.get("batch_size", 256))}

    @model_validator(mode="after")
    def _check_combinations(self) -> TrainConfig:
        problems = [*self._data_set_conflicts(), *self._train_images_conflicts()]
        if self.warmup_epochs + self.cooldown_epochs >= self.epochs > 1:
            problems.append(
                f"warmup_epochs + cooldown_epochs < epochs must hold (got {self.warmup_epochs} + "
                f"{self.cooldown_epochs}, epochs={self.epochs})"
            )
        if (self.mixup > 0 or self.cutmix > 0) and self.batch_size % 2:
            problems.append(f"mixup and cutmix need an even batch_size (got {self.batch_size})")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _data_set_conflicts(self) -> Iterator[str]:
        """Yields a sentence for each conflict with the data set."""
        info, events = DATASETS[self.dataset], self.dataset in EVENTS
        classes, channels = info.get("num_classes", 2), info["in_channels"]
        if self.num_classes < classes:
            yield f"num_classes must be at least the {classes} of {self.dataset} (got {self.num_classes})"
        sums_polarities = events and (self.family, self.in_channels) == POLARITY_SUM
        if self.in_channels != channels and not sums_polarities:
            yield f"in_channels must be the {channels} of {self.dataset} (got {self.in_channels})"
        if sums_polarities and self.embed_layer not in ADDS_POLARITIES:
            yield (
                f"in_channels must be 2 with events, of which only the stems {' and '.join(ADDS_POLARITIES)} make 3"
                f" (got in_channels=3, embed_layer={self.embed_layer})"
            )
        if len(self.mean) != channels or len(self.std) != channels:
            yield f"mean and std must have one value per channel (got in_channels={channels})"
        if self.aa is not None and (self.aa == EVENT_POLICY) != events:
            example = EVENT_POLICY if events else "rand-m9-n1-mstd0.4-inc1"
            yield f"aa must be a policy for {'events' if events else 'images'}, such as {example} (got {self.aa!r})"
        policy = None if self.aa is None else parse_policy(self.aa)
        if policy is not None and policy.magnitude % 1 and self.dataset in STREAMED:
            yield f"aa must have a whole magnitude, timm's loader takes no other (got {self.aa!r})"
        if events and self.encoding != "direct":
            yield f"encoding is for still images, events are spikes already (got encoding={self.encoding})"
        if self.distort and (events or self.dataset in STREAMED):
            yield f"distort is for digits and other small images (got dataset={self.dataset})"
        if self.dataset in FILES_OF and self.img_size != info["img_size"]:
            text = f"img_size must be the {info['img_size']} of {self.dataset}, whose pixels are a sequence"
            yield f"{text} (got {self.img_size})"
        if self.dataset in SOUND and (self.embed_layer != "sequential_embed" or self.hflip or self.aa or self.cutmix):
            text = "is one row of channels: embed_layer must be sequential_embed, and hflip, aa and cutmix must be off"
            got = f"embed_layer={self.embed_layer}, hflip={self.hflip:g}, aa={self.aa}, cutmix={self.cutmix:g}"
            yield f"{self.dataset} {text} (got {got})"
        if self.dataset == "es_imagenet" and self.step > ES_IMAGENET_MOVES:
            yield f"step must be at most the {ES_IMAGENET_MOVES} moves of es_imagenet (got {self.step})"
        if not events and self.event_size is not None:
            yield f"event_size is for events, use img_size (got dataset={self.dataset})"
        if events and self.event_size not in (None, self.img_size):
            yield f"event_size must equal img_size (got event_size={self.event_size}, img_size={self.img_size})"

    def _train_images_conflicts(self) -> Iterator[str]:
        """Yields a sentence if there are fewer images than train_images; `imagefolder` is counted when it is read."""
        most = TRAIN_IMAGES[self.dataset] * (1.0 - self.val_fraction)
        rounding = self.num_classes / 2  # the validation split rounds by class
        if self.dataset != "imagefolder" and (self.train_images or 0) > most + rounding:
            got = f"got train_images={self.train_images}, val_fraction={self.val_fraction}"
            yield f"train_images must be at most the {most:,.0f} that validation leaves of {self.dataset} ({got})"

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Returns the mean and std by which images are normalized: 0 and 1 if they are encoded, as codes need 0..1."""
        if self.encoding == "direct":
            return self.mean, self.std
        return (0.0,) * len(self.mean), (1.0,) * len(self.std)

    def input_range(self) -> tuple[float, float]:
        """Returns the least and the largest value of normalized images, whose pixels are 0 to 1."""
        return pixel_range(*self.normalization())

    def num_train_images(self) -> int:
        """Returns the images of an epoch, by the data set's published size; no file is read."""
        return self.train_images or round(TRAIN_IMAGES[self.dataset] * (1.0 - self.val_fraction))

    def dump(self) -> dict[str, Any]:
        """Returns the train file as plain data, without the keys that its family or neuron lacks."""
        lacking = registry.lacking(self.model, self.node_type)
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in lacking}


def parse(document: Document) -> TrainConfig:
    """Returns the config of a train file. Raises ConfigError with file, line, key and remedy of each problem."""
    if "space" in document.data and "model" not in document.data:
        text = "is a space file, which is searched (python -m search.run), not a train file"
        raise ConfigError(f"{document.source}:{document.line(('space',))}: {text}")
    data = canonical_data(document)
    try:
        config = TrainConfig.model_validate(data)
    except ValidationError as error:
        raise document.error(messages.problems_of(error, document, TrainConfig.model_fields)) from None
    document.refuse()
    try:
        check_feasible(config)
    except InfeasibleError as error:
        raise document.error([messages.cross_field_problem(str(error), document)]) from None
    for key, reason in _ignored_keys(config, data):
        _warn(document, key, reason)
    return config


def _ignored_keys(config: TrainConfig, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the keys without effect in this config, with the reasons."""
    for key in sorted(data.keys() & registry.lacking(config.model, config.node_type)):
        yield key, f"{config.node_type if key in registry.ALL_NEURON_KEYS else config.model} has no {key}; ignored"
    fixed = registry.MODELS[config.model].fixed.get(config.variant, {})
    for key in sorted(key for key in data.keys() & fixed.keys() if data[key] != fixed[key]):
        yield key, f"the benchmark's {config.model} has {key} {fixed[key]} whatever its file says; ignored"
    if config.exit_rule is not None and (obstacle := exit_obstacle(config)) is not None:
        yield "exit_rule", f"no image can exit early: {obstacle}; ignored"
    if "alpha" in data and config.act_function in registry.WITHOUT_ALPHA:
        yield "alpha", f"{config.act_function} has no alpha; ignored"
    for key in sorted(data.keys() & IMAGES_ONLY) if config.dataset in EVENTS else ():
        if getattr(config, key) != TrainConfig.model_fields[key].default:
            yield key, f"has no effect on the events of {config.dataset}"


def _warn(document: Document, key: str, text: str) -> None:
    warnings.warn(document.sentence(document.problem((key,), text)), stacklevel=3)


def canonical_data(document: Document) -> dict[str, Any]:
    """Returns a train file's keys in our spelling; warns of keys that the benchmark's code never reads."""
    data = canonical(read_benchmark_model(document))
    for key in sorted(data.keys() & step_names.NO_EFFECT):
        _warn(document, key, step_names.effect(key))
        del data[key]
    return data


def load(path: str | Path, train_path: str | Path | None = None, overrides: Sequence[str] = ()) -> TrainConfig:
    """Returns the config of a train file, or of the older pair of files (on a double key the model file wins).

    `overrides` are `key=value` texts that win over the files, with values written as in YAML.
    """
    document = strict_yaml.read(path, tolerant=True)
    if train_path is not None:
        train = strict_yaml.read(train_path, tolerant=True)
        if "epochs" not in train.data.keys() | document.data.keys():
            _warn(document, "epochs", f"in neither file; the benchmark then trains {PAIR_EPOCHS}")
            document = replace(document, data={**document.data, "epochs": PAIR_EPOCHS})
        document = Document(
            document.source,
            {**train.data, **document.data},
            {**train.lines, **document.lines},
            {(key,): train.source for key in train.data.keys() - document.data.keys()},
            (*document.problems, *(replace(problem, source=train.source) for problem in train.problems)),
        )
    return parse(override(document, overrides))


def recipe_path(name: str) -> Path:
    """Returns the file of a shipped recipe such as `spikformer/cifar10`, else the path itself."""
    shipped = RECIPES / f"{name}.yml"
    return shipped if shipped.exists() else Path(name)


def share_key(config: TrainConfig) -> tuple[Any, ...] | None:
    """Returns the values that the loaded data depends on: configs with equal keys can share one copy.

    Returns None if sharing does not pay: for data that is streamed from disk, or loads faster than a process starts.
    """
    if config.dataset in STREAMED | EMBEDDED:
        return None
    part = (config.val_fraction, config.split_seed, config.train_images)
    key = (config.dataset, config.data_dir, *part, config.img_size)
    return (*key, config.step) if config.dataset in EVENTS else key


def _is_grey(value: Any) -> bool:
    """Returns whether a list has one number three times, as the benchmark writes the statistics of grey images."""
    return isinstance(value, list) and len(value) == 3 and value.count(value[0]) == 3


def canonical(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the same train file with our spelling of its data set, model, parts and neuron, and None for `none`."""
    data = step_names.with_variant(data)
    out = read_none(data, TrainConfig) | {key: canonical_name(data[key]) for key in ALIASED_KEYS if key in data}
    if isinstance(data.get("dataset"), str):
        out["dataset"] = DATASET_ALIASES.get(data["dataset"], data["dataset"])
    if DATASETS.get(str(out.get("dataset")), {}).get("in_channels") == 1:
        out |= {key: data[key][:1] for key in ("mean", "std") if _is_grey(data.get(key))}
    preset = registry.MODELS.get(str(out.get("model")))
    stem = out.get("embed_layer")
    if preset is not None and isinstance(stem, str):
        out["embed_layer"] = preset.stem_aliases.get(stem, stem)
    return out
