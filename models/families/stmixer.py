"""STMixer (Deng et al., NeurIPS 2024): membrane shortcuts, matrices over the tokens in place of an attention.

Blocks of a token mixer and an MLP, after a stem with a shortcut from the image.
The released neuron is `m = 0.5 m + x`, which fires at 1: that of LIFNode with tau 2 and threshold 0.5, whose membrane
is half as large. Its surrogate, Dspike with gamma 2.5, is `act_function: dspike, alpha: 5` here, for the same reason.
It passes gradients through the reset, which is detached here as in all models. The training heads of its deep
supervision, `sml1` to `sml5`, are not here: files that hold them load without them.

| file     | strides of the stem | shortcut from the image |
| CIFAR    | 1, 1, 1, 2, 2       | 4x4, stride 4           |
| ImageNet | 1, 2, 2, 2, 2       | 16x16, stride 16        |
"""

from __future__ import annotations

from torch import nn

from models.parts.backbone import Design
from models.parts.blocks import Wiring
from models.parts.layers import Conv
from models.parts.published_keys import PublishedKeys


def init_kaiming(model: nn.Module) -> None:
    """Initialises all convolutions and token matrices; the head keeps PyTorch's initial weights."""
    for module in model.modules():
        if isinstance(module, Conv):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")


KEYS = PublishedKeys(
    (
        *((rf"^stem\.main\.{i}\.conv\.", f"patch_embd.proj_conv.{3 * i}.") for i in range(5)),
        *((rf"^stem\.main\.{i}\.bn\.", f"patch_embd.proj_conv.{3 * i + 1}.") for i in range(5)),
        (r"^stem\.shortcut\.conv\.", "patch_embd.short_proj1.0."),
        (r"^stem\.shortcut\.bn\.", "patch_embd.short_proj1.1."),
        (r"^blocks\.(\d+)\.attn\.", r"block.\1.token_mix."),
        (r"^blocks\.(\d+)\.mlp\.", r"block.\1.channel_mix."),
        (r"\.token_mix\.fc\.conv\.", ".token_mix.fc1.1."),
        (r"\.token_mix\.fc\.bn\.", ".token_mix.fc1.2."),
        (r"\.token_mix\.proj_conv\.", ".token_mix.fc2.1."),
        (r"\.token_mix\.proj_bn\.", ".token_mix.fc2.2."),
        (r"\.matrices\.(\d+)\.", r".attn.linear_mix.\1."),
        (r"\.channel_mix\.fc(\d)\.conv\.", r".channel_mix.fc\1.1."),
        (r"\.channel_mix\.fc(\d)\.bn\.", r".channel_mix.fc\1.2."),
    ),
    dead=r"sml\d\..*",
    ranks=((r"linear_mix\.\d+\.weight", 2), (r"_mix\.fc\d\.1\.weight", 3)),
)
STATIC = Design(KEYS, Wiring(proj_bias=False, mlp_bias=False), init=init_kaiming)
