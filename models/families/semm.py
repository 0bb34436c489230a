"""Spikformer with SEMM (Zhou et al., NeurIPS 2024, "Spiking Transformer with Experts Mixture").

SEW blocks of EMSA and EMSP (`models.attention.experts`) after Spikformer's stem. The authors' code is not public;
sizes, names and `variant: step` are those of the STEP benchmark's version (spikf_semm_cifar, spikf_semm_imagenet).

| file     | layers               | `variant: step`                                                                |
| CIFAR    | linear, with bias    | the router's experts and tokens are read in the wrong order, Q are always LIF  |
| ImageNet | 1x1, Q, K, V no bias | K and V skip their batch norms                                                 |

The benchmark's ImageNet head averages over steps and batch: one output for all images. `legacy_batch_leak` reproduces
it; it is off by default.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from models.config import ModelConfig
from models.families.spikformer import STEM
from models.parts.backbone import Design, SpikingModel, init_pointwise
from models.parts.blocks import Wiring
from models.parts.layers import Layer
from models.parts.published_keys import PublishedKeys, Rule


class BatchMean(Layer):
    """The mean over the images of a batch, for each of them: the fault of the released head."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True).expand_as(x)


def _blocks(layer: str) -> tuple[Rule, ...]:
    """Returns the names of the blocks; `layer` is what the code calls a 1x1 layer."""
    return (
        (r"^blocks\.", "block."),
        (r"\.router\.conv\.", ".router1."),
        (r"\.router\.bn\.", ".router2."),
        (r"\.experts\.(\d+)\.conv\.", rf".ff_list.\1.unit_{layer}."),
        (r"\.experts\.(\d+)\.bn\.", r".ff_list.\1.unit_bn."),
        (r"\.depthwise\.(conv|bn)\.", r".dw_\1."),
        (r"\.(k|v|fc1)\.bn\.", r".\1_bn."),
        (r"\.(k|v|fc1)\.conv\.", rf".\1_{layer}."),
        (r"\.(attn\.proj|mlp\.fc2)_conv\.", rf".\1_{layer}."),
    )


DEAD = r".*\.(threshold|act_fun\.alpha)"
CIFAR = Design(
    PublishedKeys((*STEM, *_blocks("linear")), DEAD, ((r"(_linear|router1)\.weight", 2),)),
    Wiring(qkv_bias=True, kv_first=False),
    init=init_pointwise,
)
IMAGENET = Design(
    PublishedKeys((*STEM, *_blocks("conv")), DEAD, ((r"attn\..*(_conv|router1)\.weight", 3),)),
    Wiring(kv_first=False, expert_bias=True),
)


def cifar(config: ModelConfig) -> SpikingModel:
    """Returns the model for CIFAR."""
    wiring = replace(CIFAR.wiring, scrambled_router=config.variant == "step")
    return replace(CIFAR, wiring=wiring)(config)


def imagenet(config: ModelConfig) -> SpikingModel:
    """Returns the model for ImageNet, with the leak if the config has it."""
    model = replace(IMAGENET, wiring=replace(IMAGENET.wiring, kv_norm=config.variant != "step"))(config)
    if config.legacy_batch_leak:
        model.head_neuron = BatchMean()
    return model
