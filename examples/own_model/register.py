"""Names of the example's parts, registered by `--import examples.own_model`."""

from __future__ import annotations

from examples.own_model import stripes
from models import registry
from models.registry import Preset
from trainers import data

registry.ATTENTIONS["Neighbours"] = "examples.own_model.attention:Neighbours"
registry.ATTENTION_KEYS["Neighbours"] = frozenset()  # of attn_scale, attn_drop, ... it has none

registry.MODELS["my_model"] = Preset(
    "models.families.spikformer:CIFAR",  # the design: stem, blocks and head; a user module can be given here as well
    {
        **registry.MODELS["spikformer_cifar"].keys,
        "attn_layer": "Neighbours",
        "img_size": 8,
        "in_channels": 1,
        "patch_size": 2,
        "embed_dim": 32,
        "num_heads": 4,
        "depths": 1,
    },
)

data.register("stripes", data.Source(stripes.load), stripes.INFO, train_images=stripes.IMAGES[True])
