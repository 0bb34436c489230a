"""SEW ResNet-18 (Fang et al., NeurIPS 2021) from SpikingJelly: the baseline without a transformer."""

from __future__ import annotations

from spikingjelly.activation_based import layer
from spikingjelly.activation_based.model import sew_resnet
from torch import Tensor, nn

from models.config import ModelConfig
from models.neurons.nodes import neuron_factory
from models.parts.backbone import SpikingModel
from models.parts.layers import BatchNorm, Conv, Head, MaxPool, repeat_steps
from models.parts.stages import stages

FIRST_WIDTH = 64


class SEWResNet18(SpikingModel):
    """SpikingJelly's blocks with the neurons of the config and countable layers. Shortcuts add spikes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.step = config.step
        neuron = neuron_factory(config)
        depths = [stage.depth for stage in stages(config)]
        body = sew_resnet.SEWResNet(sew_resnet.BasicBlock, depths, cnf="ADD", spiking_neuron=lambda: neuron())
        self.conv = Conv(config.in_channels, FIRST_WIDTH, 7, stride=2, fed="input")
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.bn = BatchNorm(FIRST_WIDTH)
        self.neuron = body.sn1
        self.pool = MaxPool()
        self.layers = nn.Sequential(body.layer1, body.layer2, body.layer3, body.layer4)
        _make_countable(self.layers)
        self.head = Head(body.fc.in_features, config.num_classes, fed="real")

    def step_logits(self, x_TBCHW: Tensor) -> Tensor:
        spikes = self.neuron(repeat_steps(self.bn(self.conv(x_TBCHW)), self.step))
        features = self.layers(self.pool(spikes)).mean((3, 4))
        return self.head(features)


def _make_countable(module: nn.Module) -> None:
    """Replaces SpikingJelly's layers by ours, which take x_TBCHW, with the same initial weights."""
    for name, child in module.named_children():
        if isinstance(child, layer.Conv2d):
            (kernel, _), (stride, _) = child.kernel_size, child.stride
            conv = Conv(child.in_channels, child.out_channels, kernel, stride=stride)
            conv.weight = child.weight
            setattr(module, name, conv)
        elif isinstance(child, layer.BatchNorm2d):
            setattr(module, name, BatchNorm(child.num_features))
        else:
            _make_countable(child)
