from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from config import step_names
from config.errors import ConfigError
from config.strict_yaml import dump_yaml
from config.strict_yaml import parse as parse_yaml
from trainers import config
from trainers import config as train_file
from trainers.config import DATASETS, RECIPES, TrainConfig, load, parse

Write = Callable[[str], Path]

MINIMAL = "dataset: digits\nmodel: spikformer_cifar\nepochs: 3\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a train file and returns its path."""

    def write(text: str, name: str = "f.yml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(parse_yaml(text, "f.yml"))
    return str(caught.value)


def with_line(line: str) -> str:
    """Returns the minimal file with one more line, in place of the key's own one."""
    key = line.split(":")[0]
    return "".join(f"{old}\n" for old in MINIMAL.splitlines() if old.split(":")[0] != key) + f"{line}\n"


# ---------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("text", ["5e-4", "0.0005", "5.0e-4", "5E-4", ".0005"])
def test_every_spelling_of_a_number_is_a_number(text: str) -> None:
    assert parse(parse_yaml(with_line(f"lr: {text}"), "f.yml")).lr == 0.0005


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("lr: true", "lr: must be a number (got true)"),
        ("epochs: true", "epochs: must be a whole number (got true)"),
        ("epochs: 3.0", "epochs: must be a whole number (got 3.0)"),
        ("epochs: 0", "epochs: must be >= 1 (got 0)"),
        ("amp: 1", "amp: must be true or false (got 1)"),
        ("amp: 'true'", "amp: must be true or false (got 'true'; remove the quotes)"),
        ("lr: '5e-4'", "lr: must be a number (got '5e-4'; remove the quotes)"),
        ("lr: 1_000", "lr: must be a number (got '1_000')"),
        ("lr:", "lr: must be a number (got nothing)"),
        ("lr: 1e400", "lr: must be a finite number (got inf)"),
        ("lr: .nan", "lr: must be a finite number (got nan)"),
        ("sched: cosin", "sched: must be one of cosine, step, poly or tanh (got 'cosin')"),
        ("attn_scale: lernable", "attn_scale: must be a number or one of learnable or head_dim (got 'lernable')"),
        ("attn_scale: -1.0", "attn_scale: must be > 0.0 or one of learnable or head_dim (got -1.0)"),
        ("patch_size: 3", "patch_size: must be one of 1, 2, 4, 8 or 16 (got 3)"),
        ("mean: 0.3", "mean: must be a list (got 0.3)"),
        ("std: [0.0]", "std: must be > 0 for every channel (got [0.0])"),
        ("scale: [1.0]", "scale: must be [low, high] with 0 < low <= high (got [1.0])"),
        ("ratio: [1.3, 0.7]", "ratio: must be [low, high] with 0 < low <= high (got [1.3, 0.7])"),
        ("hflip: 1.5", "hflip: must be <= 1.0 (got 1.5)"),
        ("device: banana", "device: must be a whole number or one of cpu or cuda (got 'banana')"),
        ("device: -1", "device: must be >= 0 or one of cpu or cuda (got -1)"),
        ("seed: 1" + "0" * 30, "seed: must be < 9223372036854775808 (got 1" + "0" * 30 + ")"),
        ("tau: 1.0", "tau: must be > 1.0 (got 1.0)"),
        ("tau: {a: 1}", "tau: must be a number (got {a: 1})"),
        ("data_dir: 5", "data_dir: must be text (got 5; put it in quotes)"),
        ("aa: augmix-m3", "aa: must start with rand, or be snn-wide or none (got 'augmix-m3')"),
        ("aa: rand-m9-p0.5", "aa: 'p0.5' is not a part of a rand policy (m9, n1, mstd0.4, inc1)"),
        ("read_step: 9", "read_step: read_step <= step must hold (got read_step=9, step=4)"),
    ],
)
def test_a_wrong_value_is_reported_with_file_line_rule_and_value(line: str, reason: str) -> None:
    text = with_line(line)
    assert error_of(text) == f"f.yml:{len(text.splitlines())}: {reason}"


@pytest.mark.parametrize(
    ("line", "nearest"),
    [("model: spikformer_cifr", "spikformer_cifar"), ("dataset: cifar", "cifar10"), ("node_type: LIF", "LIFNode")],
)
def test_an_unknown_name_lists_the_known_ones_and_the_nearest(line: str, nearest: str) -> None:
    message = error_of(with_line(line))
    assert f"(got {line.split()[1]!r}). Known: " in message
    assert f"Did you mean {nearest}?" in message


def test_an_unknown_key_names_line_and_nearest_key() -> None:
    assert error_of(MINIMAL + "embed_dims: 8\n") == "f.yml:4: embed_dims: unknown key. Did you mean embed_dim?"
    assert "f.yml:4: zzz: unknown key." in error_of(MINIMAL + "zzz: 8\n")


def test_a_duplicate_key_names_both_lines() -> None:
    assert error_of(MINIMAL + "epochs: 4\n") == "f.yml:4: epochs: duplicate key (first in line 3)"


def test_a_missing_key_is_reported() -> None:
    assert "epochs: missing" in error_of("dataset: digits\nmodel: spikformer_cifar\n")


def test_all_problems_are_reported_at_once_in_the_order_of_the_lines() -> None:
    lines = error_of(MINIMAL + "lr: a\ntau: 0\nembed_dims: 8\nbatch_size: 0\n").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["f.yml:4", "f.yml:5", "f.yml:6", "f.yml:7"]


def test_at_most_twenty_problems_are_reported() -> None:
    lines = error_of(MINIMAL + "".join(f"zzz{i}: 1\n" for i in range(30))).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "f.yml: and 10 more"


@pytest.mark.parametrize("line", ["batch_size: x", "step: x"])
def test_a_wrong_value_is_reported_once_although_another_key_inherits_it(line: str) -> None:
    assert len(error_of(with_line(line)).splitlines()) == 1


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("warmup_epochs: 2\ncooldown_epochs: 1\n", "warmup_epochs + cooldown_epochs < epochs must hold (got 2 + 1"),
        ("mixup: 0.5\nbatch_size: 3\n", "need an even batch_size (got 3)"),
        ("mean: [0.1, 0.2]\n", "mean and std must have one value per channel (got in_channels=1)"),
        ("num_classes: 5\n", "num_classes must be at least the 10 of digits (got 5)"),
        ("in_channels: 3\nmean: [1, 1, 1]\nstd: [1, 1, 1]\n", "in_channels must be the 1 of digits (got 3)"),
        ("embed_dim: 40\nnum_heads: 3\n", "num_heads must divide embed_dim (got embed_dim=40, num_heads=3)"),
    ],
)
def test_conflicting_values_are_reported_with_the_rule(lines: str, reason: str) -> None:
    message = error_of(MINIMAL + lines)
    assert re.match(r"f\.yml:[45]: \w+: ", message), "the line of the first key that the sentence names"
    assert reason in message


def test_missing_keys_come_from_the_data_set_and_the_published_model() -> None:
    config = parse(parse_yaml("dataset: cifar100\nmodel: spikformer_cifar\nepochs: 3\nstep: 6\nbatch_size: 32\n", "f"))
    assert (config.num_classes, config.img_size, config.in_channels) == (100, 32, 3)
    assert (config.mean, config.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    assert (config.embed_dim, config.num_heads, config.depths, config.attn_scale) == (384, 12, 4, 0.125)
    assert (config.read_step, config.val_batch_size, config.val_fraction, config.threads) == (6, 32, 0.1, 1)


# ---------------------------------------------------------------------------------------------- keys without effect


@pytest.mark.parametrize(("node_type", "warns"), [("IFNode", True), ("LIFNode", False), ("PLIFNode", False)])
def test_a_key_that_the_neuron_lacks_warns_with_its_line(node_type: str, warns: bool) -> None:
    document = parse_yaml(MINIMAL + f"node_type: {node_type}\ntau: 3.0\n", "f.yml")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert parse(document).tau == 3.0
    assert [str(w.message) for w in caught] == ["f.yml:5: tau: IFNode has no tau; ignored"] * warns


def test_a_key_of_the_benchmark_without_effect_warns_with_its_line() -> None:
    with pytest.warns(UserWarning, match=r"^f\.yml:4: model-ema: the benchmark's code never reads this key$"):
        config = parse(parse_yaml(MINIMAL + "model-ema: False\n", "f.yml"))
    assert "model-ema" not in config.dump()


@pytest.mark.parametrize("key", sorted(step_names.NO_EFFECT))
def test_the_keys_without_effect_are_not_ours(key: str) -> None:
    assert key not in TrainConfig.model_fields


# ---------------------------------------------------------------------------------------------- the benchmark


@pytest.mark.parametrize(
    ("key", "theirs", "ours"),
    [
        ("dataset", "torch/cifar10", "cifar10"),
        ("dataset", "torch/cifar100", "cifar100"),
        ("dataset", "dvsc10", "cifar10_dvs"),
        ("model", "std_cifar", "sdt_cifar"),
        ("model", "std_imagenet", "sdt_imagenet"),
        ("model", "spikformer_imgnet", "spikformer_imagenet"),
        ("model", "tim", "tim_dvs"),
        ("act_function", "SigmoidGrad", "sigmoid"),
        ("node_type", "GLIFTorch", "GLIFNode"),
        ("node_type", "ComplementaryLIFNeuron", "CLIFNode"),
        ("node_type", "PSNTorch", "PSN"),
    ],
)
def test_a_spelling_of_the_benchmark_is_read_as_ours(key: str, theirs: str, ours: str) -> None:
    assert config.canonical({key: theirs}) == {key: ours}
    assert config.canonical({key: ours}) == {key: ours}


@pytest.mark.parametrize(
    ("model", "stem"), [("std_cifar", "MS_SPS"), ("sdt_cifar", "MS_SPS"), ("spikformer_cifar", "SPS")]
)
def test_the_stem_sps_of_a_spike_driven_transformer_is_the_sdt_stem(model: str, stem: str) -> None:
    assert config.canonical({"model": model, "embed_layer": "SPS"})["embed_layer"] == stem


BENCHMARK_MODEL = """\
# dataset
data_dir: /data/datasets/CIFAR10/
dataset: torch/cifar10
num_classes: 10
img_size: 32

# data augmentation
mean: [0.4914, 0.4822, 0.4465]
std: [0.2470, 0.2435, 0.2616]
crop_pct: 1.0
scale: [1.0, 1.0]
ratio: [1.0, 1.0]
color_jitter: 0.
interpolation: bicubic
train_interpolation: bicubic
aa: rand-m9-n1-mstd0.4-inc1
epochs: 400
mixup: 0.5
mixup_off_epoch: 200
mixup_prob: 1.0
mixup_mode: batch
mixup_switch_prob: 0.5
cutmix: 0.0
reprob: 0.25
remode: const

# model structure
model: "spikformer_cifar"
step: 4
patch_size: 4
in_channels: 3
embed_dim: 384
num_heads: 12
mlp_ratio: 4
attn_scale: 0.125
mlp_drop: 0.0
attn_drop: 0.0
depths: 4

# node
tau: 2.0
threshold: 1.0
act_function: SigmoidGrad
node_type: LIFNode
alpha: 4.0
"""
BENCHMARK_TRAINING = """\
amp: True
batch_size: 128
val_batch_size: 128
lr: 5e-4
min_lr: 1e-5
sched: cosine
weight_decay: 6e-2
cooldown_epochs: 10
warmup_epochs: 20
warmup_lr: 0.00001
opt: adamw
smoothing: 0.1
workers: 16
seed: 42
log_interval: 200
device: 2
"""
ONE_FILE_ONLY = "embed_layer: SPS\nattn_layer: SSA\nmodel-ema: False\nmodel-ema-decay: 0.9998\nchannels-last: False\n"
TWO_FILES_ONLY = "output: /home/someone/log/SpikingTransformerBenchmark/cls/\nchannels-last: False\n"


def expect_benchmark(config: TrainConfig) -> None:
    assert (config.dataset, config.model, config.act_function, config.amp) == (
        "cifar10",
        "spikformer_cifar",
        "sigmoid",
        True,
    )
    assert (config.lr, config.min_lr, config.weight_decay, config.warmup_lr) == (5e-4, 1e-5, 6e-2, 1e-5)
    assert (config.std, config.device, config.mlp_ratio, config.color_jitter) == ((0.247, 0.2435, 0.2616), 2, 4.0, 0.0)
    assert (config.embed_layer, config.attn_layer, config.read_step) == ("SPS", "SSA", 4)


def test_the_one_file_form_of_the_benchmark_loads_as_it_is(write: Callable[..., Path]) -> None:
    path = write(BENCHMARK_MODEL + ONE_FILE_ONLY + BENCHMARK_TRAINING)
    with pytest.warns(UserWarning, match="never reads") as caught:
        expect_benchmark(load(path))
    assert [str(w.message).split(": ")[1] for w in caught] == ["channels-last", "model-ema", "model-ema-decay"]


def test_the_two_file_form_of_the_benchmark_loads_as_it_is(write: Callable[..., Path]) -> None:
    model, train = write(BENCHMARK_MODEL, "cifar10.yml"), write(BENCHMARK_TRAINING + TWO_FILES_ONLY, "train.yml")
    with pytest.warns(UserWarning, match=r"train\.yml:18: channels-last"):
        expect_benchmark(load(model, train))


def test_a_pair_without_epochs_has_those_of_the_benchmark(write: Callable[..., Path]) -> None:
    model = write(MINIMAL.replace("epochs: 3\n", ""), "m.yml")
    with pytest.warns(UserWarning, match=r"m\.yml:1: epochs: in neither file; the benchmark then trains 300"):
        assert load(model, write("lr: 5e-4\n", "train.yml")).epochs == 300
    with pytest.raises(ConfigError, match="epochs: missing"):
        load(model)


def test_a_surrogate_of_fixed_shape_warns_that_alpha_has_no_effect(write: Callable[..., Path]) -> None:
    with pytest.warns(UserWarning, match="leakykrelu has no alpha; ignored"):
        load(write(MINIMAL + "act_function: leakykrelu\nalpha: 4.0\n"))


def test_on_a_double_key_the_model_file_wins(write: Callable[..., Path]) -> None:
    model, train = write(MINIMAL + "depths: 2\n", "m.yml"), write("depths: 4\nepochs: 9\nlr: 5e-4\n", "train.yml")
    config = load(model, train)
    assert (config.depths, config.epochs, config.lr) == (2, 3, 5e-4)


def test_an_error_in_a_pair_of_files_names_the_file_that_has_the_key(write: Callable[..., Path]) -> None:
    model, train = write(MINIMAL + "\ntau: 0\n", "m.yml"), write("seed: 1\nlr: a\n", "train.yml")
    with pytest.raises(ConfigError) as caught:
        load(model, train)
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(f"{model.parent}/").split(": ")[0] for line in lines] == ["m.yml:5", "train.yml:2"]


# ---------------------------------------------------------------------------------------------- overrides


def test_overrides_win_over_the_file_and_are_parsed_like_it(write: Callable[..., Path]) -> None:
    config = load(write(MINIMAL), overrides=["lr=5e-4", "epochs=7", "mean=[0.5]", "data_dir=a=b", "aa="])
    assert (config.lr, config.epochs, config.mean, config.data_dir, config.aa) == (5e-4, 7, (0.5,), "a=b", None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr", "--set lr: must be key=value"),
        ("=3", "--set =3: must be key=value"),
        ("epochs=x", "--set epochs=x: epochs: must be a whole number (got 'x')"),
        ("epoch=3", "--set epoch=3: epoch: unknown key. Did you mean epochs?"),
        ("lr=[1", "--set lr=[1: lr: not YAML: a comma is missing, or the bracket that opens in line 1 is not closed"),
        ("lr=1\nepochs: 4", "--set lr=1\nepochs: 4: lr: must be one value; give --set once for each key"),
        ("..=1", "--set ..=1: must be key=value"),
        (
            "lr=!!float 1",
            "--set lr=!!float 1: lr: tags are not allowed (got tag:yaml.org,2002:float). Remove it; "
            "quoted text stays text",
        ),
    ],
)
def test_a_wrong_override_is_reported_as_an_override_not_as_the_files(
    write: Write, override: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(MINIMAL), overrides=[override])
    assert str(caught.value) == message


# ---------------------------------------------------------------------------------------------- writing


@st.composite
def configs(draw: st.DrawFn) -> TrainConfig:
    """Any config: every kind of value, with texts that look like numbers."""
    name = draw(st.sampled_from(["digits", "cifar10", "cifar100"]))
    step = draw(st.integers(1, 64))
    number = lambda low, high: draw(st.floats(low, high, exclude_min=True, exclude_max=True))
    keys: dict[str, Any] = {
        "dataset": name,
        "model": "spikformer_cifar",
        "epochs": draw(st.integers(31, 100_000)),
        "step": step,
        "read_step": draw(st.integers(1, step)),
        "attn_scale": draw(st.sampled_from(["learnable", "head_dim"]) | st.floats(1e-9, 1e9)),
        "mlp_ratio": number(0.5, 16.0),
        "node_type": draw(st.sampled_from(["LIFNode", "PLIFNode"])),
        "tau": number(1.0, 100.0),
        "lr": draw(st.floats(0.0, 10.0)),
        "min_lr": draw(st.sampled_from([5e-4, 1e-05, 1e-300, 5e-324])),
        "clip_grad": draw(st.none() | st.floats(1e-3, 1e3)),
        "hflip": draw(st.sampled_from([0, 1, 0.5, 1.0])),
        "aa": draw(st.none() | st.just("rand-m9-n1-mstd0.4-inc1")),
        "scale": [number(0.0, 0.5), number(0.5, 1.0)],
        "amp": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "device": draw(st.none() | st.integers(0, 9) | st.sampled_from(["cpu", "cuda"])),
        "data_dir": draw(
            st.none() | st.text(st.characters(codec="utf-8")) | st.sampled_from(["1e5", "true", "~", "- a"])
        ),
        "output": draw(
            st.sampled_from(["runs/train", "12", ".5", "", " x", "a: b", "#c", "é", "x" * 300, "2020-01-01"])
        ),
    }
    return TrainConfig.model_validate(keys)


@given(configs())
def test_a_written_dump_loads_as_the_same_config(config: TrainConfig) -> None:
    second = parse(parse_yaml(dump_yaml(config.dump()), "f.yml"))
    assert second == config
    assert second.dump() == config.dump()


@given(configs())
def test_written_files_read_equally_in_other_yaml_readers(config: TrainConfig) -> None:
    assert yaml.safe_load(dump_yaml(config.dump())) == config.dump()


def test_dump_writes_every_key_that_the_model_and_the_neuron_have(tiny: Callable[..., TrainConfig]) -> None:
    assert set(TrainConfig.model_fields) - set(tiny().dump()) == {"kd_head", "legacy_batch_leak", "variant"}
    assert set(tiny().dump()) - set(tiny(node_type="IFNode").dump()) == {"tau"}


# ---------------------------------------------------------------------------------------------- recipes

LOADABLE = [path for path in sorted(RECIPES.glob("*/*.yml")) if yaml.safe_load(path.read_text())["dataset"] in DATASETS]


@pytest.mark.parametrize("path", LOADABLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_shipped_recipe_is_found_by_its_name_and_survives_being_written(path: Path) -> None:
    assert train_file.recipe_path(f"{path.parent.name}/{path.stem}") == path
    config = load(path)
    assert parse(parse_yaml(dump_yaml(config.dump()), "f.yml")) == config


# ---------------------------------------------------------------------------------------------- events

EVENT_FILE = "model: spikformer_dvs\ndataset: cifar10_dvs\nepochs: 1\n"


def test_event_data_counts_by_value_by_default() -> None:
    config = parse(parse_yaml(EVENT_FILE, "f.yml"))
    assert (config.in_channels, config.mean, config.std) == (2, (0.0, 0.0), (1.0, 1.0))


def test_event_size_is_the_size_of_the_frames() -> None:
    assert parse(parse_yaml(EVENT_FILE + "event_size: 64\n", "f.yml")).img_size == 64
    assert parse(parse_yaml(EVENT_FILE + "event_size: 64\nimg_size: 64\n", "f.yml")).img_size == 64
    both = error_of(EVENT_FILE + "event_size: 64\nimg_size: 128\n")
    assert "event_size must equal img_size (got event_size=64, img_size=128)" in both


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (EVENT_FILE + "aa: rand-m9-n1\n", "aa must be a policy for events, such as snn-wide (got 'rand-m9-n1')"),
        (
            MINIMAL + "aa: snn-wide\n",
            "aa must be a policy for images, such as rand-m9-n1-mstd0.4-inc1 (got 'snn-wide')",
        ),
        (EVENT_FILE + "distort: true\n", "distort is for digits and other small images (got dataset=cifar10_dvs)"),
        (EVENT_FILE + "in_channels: 3\n", "in_channels must be the 2 of cifar10_dvs (got 3)"),
        (
            EVENT_FILE.replace("spikformer_dvs", "spikingresformer_cifar") + "in_channels: 3\nembed_layer: SPS\n",
            "in_channels must be 2 with events, of which only the stems Prologue and Encode make 3"
            " (got in_channels=3, embed_layer=SPS)",
        ),
        (
            "model: spikformer_imgnet\ndataset: imagefolder\nepochs: 1\naa: rand-m9.5-n1\n",
            "aa must have a whole magnitude, timm's loader takes no other (got 'rand-m9.5-n1')",
        ),
        (MINIMAL + "embed_layer: [SPS]\n", "embed_layer"),
        (MINIMAL + "embed_layer: {a: 1}\n", "embed_layer"),
    ],
)
def test_a_conflict_with_the_data_set_is_reported(text: str, reason: str) -> None:
    assert reason in error_of(text)


def test_spikingresformer_takes_events_with_a_third_channel() -> None:
    text = EVENT_FILE.replace("spikformer_dvs", "spikingresformer_cifar") + "in_channels: 3\nimg_size: 64\n"
    assert parse(parse_yaml(text, "f.yml")).in_channels == 3


def test_an_image_augmentation_without_effect_on_events_gives_a_warning() -> None:
    with pytest.warns(UserWarning, match="f.yml:4: reprob: has no effect on the events of cifar10_dvs"):
        parse(parse_yaml(EVENT_FILE + "reprob: 0.25\nscale: [1.0, 1.0]\n", "f.yml"))
