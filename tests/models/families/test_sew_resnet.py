"""The wrapped SEW ResNet-18 against SpikingJelly's."""

from __future__ import annotations

import re

import torch
from spikingjelly.activation_based import functional, neuron
from spikingjelly.activation_based.model import sew_resnet

from models import create_model


def their_key(key: str) -> str:
    """Returns SpikingJelly's name of one of our keys."""
    key = re.sub(r"^layers\.(\d)", lambda match: f"layer{int(match[1]) + 1}", key)
    return re.sub(r"^(conv|bn)\.", r"\g<1>1.", key).replace("head.", "fc.")


def test_the_wrapped_model_gives_the_output_of_spikingjellys() -> None:
    torch.manual_seed(0)
    ours = create_model({"model": "sew_resnet18", "img_size": 32, "num_classes": 5, "step": 2})
    theirs = sew_resnet.SEWResNet(
        sew_resnet.BasicBlock, [2, 2, 2, 2], num_classes=5, cnf="ADD", spiking_neuron=neuron.LIFNode, detach_reset=True
    )
    functional.set_step_mode(theirs, "m")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours.train().forward_steps(x)
        theirs.load_state_dict({their_key(key): value for key, value in ours.state_dict().items()})
        expected = theirs.eval()(x.expand(2, *x.shape))
        assert float(expected.std()) > 0.0
        assert torch.allclose(ours.eval().forward_steps(x), expected, atol=1e-5)
