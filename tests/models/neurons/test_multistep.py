"""CUDA's kernels in Triton's interpreter against the neurons on the CPU: equal spikes, gradients within rounding."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, surrogate
from torch import Tensor

from models import ModelConfig, registry
from models.neurons import multistep
from models.neurons.multistep import Neuron
from models.neurons.nodes import neuron_factory
from models.neurons.surrogates import closed_form

NODES = sorted(set(registry.NEURONS) - registry.ALL_STEPS_NEURONS - {"IELIFNode"})  # which has no states
SURROGATES = sorted(registry.SURROGATES)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Largest difference of gradients, of the largest gradient or of 1."""
HAS_KERNELS = multistep._has_kernels.__wrapped__
"""The check without its cache; the interpreter's fixture replaces it."""

pytestmark = [
    pytest.mark.usefixtures("interpreted_kernels"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # of numpy, where a branch that is not taken divides by zero
]


@pytest.fixture(name="reference")
def _reference(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls a function with neurons that run their code for the CPU."""

    def reference(function: Any, *arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(multistep, "_has_kernels", lambda device: False)
            return function(*arguments)

    return reference


def layer_of(node_type: str, T: int, **keys: Any) -> Any:
    torch.manual_seed(0)
    keys = {"tau": 1.7, "threshold": 0.8, "alpha": 3.0, "step": T, **keys}
    return neuron_factory(ModelConfig.model_validate({"model": "spikformer_cifar", "node_type": node_type, **keys}))()


def sample(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return 2.0 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def train(layer: Any, x: Tensor, cut: int) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Returns spikes, membranes and gradients of two calls in a row, the second one from the first one's membranes."""
    x = x.clone().requires_grad_()
    spikes = torch.cat([layer(part) for part in (x[:cut], x[cut:]) if len(part)])
    v = layer.v()[0] if callable(layer.v) else layer.v
    weight = sample(*x.shape, dtype=x.dtype, seed=1)
    ((spikes * weight).float().sum() + v.square().sum()).backward()
    return spikes.detach(), v.detach(), [x.grad, *(p.grad for p in layer.parameters())]


def assert_same(reference: Any, node_type: str, x: Tensor, cut: int = 0, **keys: Any) -> None:
    """Holds a layer on the kernels against the same layer on the CPU."""
    spikes, v, grads = train(layer_of(node_type, len(x), **keys), x, cut)
    wanted, wanted_v, wanted_grads = reference(train, layer_of(node_type, len(x), **keys), x, cut)
    assert torch.equal(spikes, wanted)
    assert spikes.dtype == x.dtype
    assert v.dtype == torch.float32
    assert torch.allclose(v, wanted_v, rtol=0.0, atol=1e-5)
    for found, expected in zip(grads, wanted_grads, strict=True):
        expected = torch.zeros_like(x if found is None else found).float() if expected is None else expected.float()
        found = torch.zeros_like(expected) if found is None else found.float()
        fits = expected.abs() < 0.5 * torch.finfo(x.dtype).max  # some grow beyond the dtype over many steps
        size = max(1.0, float(expected.where(fits, torch.ones(())).abs().max()))
        assert torch.allclose(found[fits], expected[fits], rtol=0.0, atol=TOLERANCE[x.dtype] * size)
        assert not (found[~fits].abs() < 0.4 * torch.finfo(x.dtype).max).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("node_type", NODES)
def test_each_neuron_fires_and_learns_as_on_the_cpu(node_type: str, dtype: torch.dtype, reference: Any) -> None:
    x = sample(4, 2, 3, 5, 5, dtype=dtype)
    assert float(reference(layer_of(node_type, 4), x).detach().float().mean()) > 0.05
    assert_same(reference, node_type, x, cut=1)


@pytest.mark.parametrize("act_function", SURROGATES)
def test_each_surrogate_passes_the_gradient_that_it_passes_on_the_cpu(act_function: str, reference: Any) -> None:
    assert_same(reference, "LIFNode", sample(2, 200), act_function=act_function)


@pytest.mark.parametrize(
    ("T", "node_type"), [(1, "LIFNode"), (8, "PLIFNode"), (11, "CLIFNode"), (11, "GLIFNode"), (64, "LIFNode")]
)
def test_any_number_of_steps_up_to_64(T: int, node_type: str, reference: Any) -> None:
    assert_same(reference, node_type, sample(T, 40))


@pytest.mark.slow
@pytest.mark.parametrize("T", [1, 4, 6, 13, 64])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("node_type", NODES)
def test_every_neuron_surrogate_dtype_and_number_of_steps(
    node_type: str, dtype: torch.dtype, T: int, reference: Any
) -> None:
    values = itertools.cycle([(1.1, 0.5, 1.5), (2.0, 1.0, 4.0), (3.3, 0.7, 2.0)])
    for act_function, (tau, threshold, alpha) in zip(SURROGATES, values, strict=False):
        keys = {"tau": tau, "threshold": threshold, "alpha": alpha, "act_function": act_function}
        assert_same(reference, node_type, sample(T, 3, 37, dtype=dtype, seed=T), cut=T // 3, **keys)


@pytest.mark.parametrize("node_type", ["LIFNode", "GLIFNode"])
def test_in_evaluation_calls_go_on_from_the_membranes_of_the_call_before(node_type: str, reference: Any) -> None:
    x = sample(5, 3, 20)
    with torch.no_grad():
        spikes = [layer(part) for layer in [layer_of(node_type, 5).eval()] for part in x.split([2, 1, 2])]
        assert torch.equal(torch.cat(spikes), reference(layer_of(node_type, 5).eval(), x))


def test_clif_passes_no_gradient_through_its_spikes_in_evaluation(reference: Any) -> None:
    grads = []
    for call in (lambda layer, x: layer(x), lambda layer, x: reference(layer, x)):
        layer, x = layer_of("CLIFNode", 4).eval(), sample(4, 30).requires_grad_()
        call(layer, x)
        v = layer.v()[0] if callable(layer.v) else layer.v
        v.sum().backward()
        grads.append(x.grad)
    assert torch.allclose(grads[0], grads[1], rtol=0.0, atol=1e-5)


LAYOUTS = {
    "channels last": lambda x: x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2]),
    "still image": lambda x: x[:1].expand_as(x),
    "heads": lambda x: x.transpose(2, 3),
    "steps after the batch": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every second": lambda x: x.repeat_interleave(2, -1)[..., ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_currents_and_gradients_may_have_any_strides(layout: Any, reference: Any) -> None:
    x = layout(sample(4, 2, 6, 3, 3))
    assert_same(reference, "LIFNode", x, cut=1)
    assert_same(reference, "PLIFNode", x)


def test_spikes_have_the_layout_of_the_currents() -> None:
    x = LAYOUTS["channels last"](sample(4, 2, 6, 3, 3))
    assert layer_of("LIFNode", 4)(x).stride() == x.stride()
    assert layer_of("LIFNode", 4)(x[:1].expand(4, -1, -1, -1, -1)).stride() == x.stride()


@pytest.mark.parametrize("is_last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("name", ["lif", "if"])
def test_each_group_of_channels_may_have_constants_of_its_own(name: str, is_last: bool) -> None:
    x = sample(3, 2, 4 * 3, 2, 2)
    x = LAYOUTS["channels last"](x) if is_last else x
    weight = sample(*x.shape, seed=1)
    spikes = [surrogate.ATan(alpha=1.0 + k) for k in range(4)]
    rows = [(1.3 + 0.4 * k, 0.5 + 0.2 * k, *spike_numbers(spike)) for k, spike in enumerate(spikes)]
    together = run(x, weight, Neuron(name, "atan", torch.tensor(rows).T.contiguous(), 3 if is_last else 3 * 2 * 2))
    for k, row in enumerate(rows):
        part = slice(3 * k, 3 * k + 3)
        for found, expected in zip(together, run(x, weight, Neuron(name, "atan", row)), strict=True):
            assert torch.equal(found[..., part, :, :], expected[..., part, :, :])


def spike_numbers(spike: Any) -> tuple[float, float]:
    form = closed_form(spike)
    assert form is not None
    return form.a, form.b


def run(x: Tensor, weight: Tensor, neuron: Neuron) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    spikes, (v, _) = multistep.multistep(x, (None, None), None, neuron, keep_states=True)
    (spikes * weight).sum().backward()
    assert v is not None
    assert x.grad is not None
    return spikes.detach(), v.detach(), x.grad


@pytest.mark.parametrize("node_type", ["LIFNode", "KLIFNode", "GLIFNode"])
def test_only_the_currents_are_kept_for_the_backward_pass(node_type: str) -> None:
    layer, x = layer_of(node_type, 4), sample(4, 1000, dtype=torch.bfloat16).requires_grad_()
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.numel() >= 1000:
            kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x)
    assert kept == [2 * x.numel()]
    assert not isinstance(layer.v, Tensor)


def test_a_layer_that_is_called_again_keeps_its_membranes_from_then_on() -> None:
    layer, x = layer_of("LIFNode", 4), sample(2, 30).requires_grad_()
    layer(x), layer(x)
    functional.reset_net(layer)
    layer(x)
    assert isinstance(layer.v, Tensor)


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    x = sample(3, 40).requires_grad_()
    out = layer_of("LIFNode", 3)(x).sum()
    first, second = (torch.autograd.grad(out, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_membranes_of_another_input_are_refused() -> None:
    layer = layer_of("LIFNode", 2)
    with torch.no_grad():
        layer(sample(2, 30))
        with pytest.raises(
            ValueError, match=r"must have the shape of one step's currents \(got \[30\], currents \[2, 31"
        ):
            layer(sample(2, 31))


def test_other_dtypes_and_more_steps_run_by_spikingjellys_code() -> None:
    assert multistep.applies(sample(64, 3))
    assert not multistep.applies(sample(65, 3))
    assert not multistep.applies(sample(4, 3).double())
    assert not multistep.applies(sample(4, 0))


@pytest.mark.parametrize(
    ("device", "triton", "capability", "wanted"),
    [
        ("cuda", "installed", (7, 5), True),
        ("cuda", None, (9, 0), False),
        ("cuda", "installed", (6, 1), False),
        ("cpu", "installed", (9, 0), False),
    ],
)
def test_kernels_need_triton_and_a_card_that_it_supports(
    device: str, triton: str | None, capability: tuple[int, int], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multistep, "find_spec", lambda name: triton)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert HAS_KERNELS(torch.device(device)) is wanted
