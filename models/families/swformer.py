"""SWformer (Fang et al., ECCV 2024, "Spiking Wavelet Transformer").

The wavelet mixer of `models.attention.wavelet` in place of attention, on SDT's stem and membrane shortcuts. The
transform needs a map whose side is a power of two, so the ImageNet model takes 256 pixels.

| file        | mixer                                  | head                   | groups |
| CIFAR       | transform beside two convolutions      | on the mean            | 4      |
| ImageNet    | the same                               | neurons before it      | 2      |
| events      | convolutions that read the transform   | on the mean            | 4      |
| STEP, CIFAR | binary neurons within the transform    | on the mean            | 16     |

STEP's stem ends in spikes, to which it adds the positions (`SPS_ADD`). The released models have a positive threshold of
1.0 within the transforms (`attn_threshold`), one of the two for ImageNet 0.5.
"""

from __future__ import annotations

from models.families.spikformer import BLOCKS, STEM
from models.parts.backbone import Design, Versions, init_convs
from models.parts.blocks import Wiring
from models.parts.published_keys import PublishedKeys

_STEP = (*STEM, *BLOCKS, (r"\.haar_product\.weight$", ".haar_weight"))
_CIFAR = (*_STEP, (r"\.attn\.", ".mixer."))
_IMAGENET = (*_STEP, (r"\.haar_multiply_bn\.", ".haar_bn."))
_STEP_DEAD = r".*\.(threshold|act_fun\.alpha)"

CIFAR = Versions(authors=Design(PublishedKeys(_CIFAR)), step=Design(PublishedKeys(_STEP, _STEP_DEAD)))
IMAGENET = Design(PublishedKeys(_IMAGENET), Wiring(mlp_shortcut=True), head_neuron=True, init=init_convs)
DVS = Design(PublishedKeys(_CIFAR), Wiring(wavelet_in_series=True))
