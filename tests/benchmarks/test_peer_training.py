"""The peer of `benchmarks.peers`: the same function and the same recipe as the trainer's, from SpikingJelly's parts."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import functional
from torch import nn

from benchmarks import peer_training
from benchmarks.peers import make_config
from models import create_model
from models.parts.backbone import SpikingModel
from trainers import optim
from trainers.augment.images import make_augment
from trainers.config import TrainConfig
from trainers.data.split import Split


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return make_config("cifar10", epochs=5)


def copy_weights(ours: SpikingModel, peer: nn.Module) -> None:
    """Copies the weights into the peer, whose Q, K and V are one layer. Both have their layers in the same order."""
    with torch.no_grad():
        for kinds, first in (((nn.Conv2d, nn.Conv1d), 5), ((nn.BatchNorm2d, nn.BatchNorm1d), 5), ((nn.Linear,), None)):
            sources, targets = ([m for m in net.modules() if isinstance(m, kinds)] for net in (ours, peer))
            for name in ("weight", "bias"):
                values = [getattr(module, name) for module in sources]
                if values[0] is None:  # a bias in front of a batch norm has no effect
                    continue
                if first is not None:
                    values[first : first + 3] = [torch.cat(values[first : first + 3])]
                for module, value in zip(targets, values, strict=True):
                    getattr(module, name).copy_(value.view_as(getattr(module, name)))


def test_with_equal_weights_the_peer_has_our_logits(config: TrainConfig) -> None:
    torch.manual_seed(0)
    ours, peer = create_model(config).double().train(), peer_training.Spikformer(config).double().train()
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 1.0, 3.0)  # enough spikes in all layers
    copy_weights(ours, peer)
    x = torch.randn(8, 3, 16, 16, dtype=torch.float64)
    logits = ours(x)
    assert logits.std() > 0.01
    torch.testing.assert_close(peer(x), logits, rtol=1e-9, atol=1e-12)
    functional.reset_net(peer)


def test_the_peers_learning_rates_are_those_of_the_schedule(config: TrainConfig) -> None:
    model = nn.Linear(2, 2)
    peer = peer_training.make_optimizer(model, config)
    theirs = peer_training.make_schedule(peer, config)
    optimizer = optim.make_optimizer(model, config)
    ours = optim.make_schedule(optimizer, config)
    for epoch in range(config.epochs):
        ours.step(epoch)
        rate = {group["lr"] for group in optimizer.param_groups}
        assert [group["lr"] for group in peer.param_groups] == pytest.approx([*rate, *rate], rel=1e-12)
        peer.step()
        theirs.step()


def test_weight_decay_leaves_out_the_same_weights(config: TrainConfig) -> None:
    model = create_model(config)
    groups = (
        optim.make_optimizer(model, config).param_groups,
        peer_training.make_optimizer(model, config).param_groups,
    )
    ours, peer = ({id(w): group["weight_decay"] for group in side for w in group["params"]} for side in groups)
    assert ours == peer


def test_without_flips_the_peer_sees_our_input(config: TrainConfig) -> None:
    images = torch.randint(256, (4, 3, 16, 16)).to(torch.uint8)
    split = Split(images, torch.arange(4))
    peer = peer_training.Images(split, config, is_training=False)
    ours = make_augment(config, torch.device("cpu")).plain(images)
    torch.testing.assert_close(torch.stack([peer[i][0] for i in range(4)]), ours)


def test_half_of_the_training_images_are_flipped(config: TrainConfig) -> None:
    torch.manual_seed(0)
    split = Split(torch.randint(256, (100, 3, 16, 16)).to(torch.uint8), torch.zeros(100, dtype=torch.int64))
    plain = peer_training.Images(split, config, is_training=False)
    changed = peer_training.Images(split, config, is_training=True)
    flipped = [torch.equal(changed[i][0], plain[i][0].flip(2)) for i in range(100)]
    assert 35 <= sum(flipped) <= 65


def test_a_training_of_the_peer_learns() -> None:
    config = make_config("digits", embed_dim=16, num_heads=2, batch_size=32, epochs=20, train_images=128)
    labels = torch.arange(128) % 2
    images = (labels.view(-1, 1, 1, 1) * 200).expand(-1, 1, 8, 8).to(torch.uint8).contiguous()
    split = Split(images, labels)
    found = peer_training.train(config, (split, split))
    assert found["accuracy"] > 90.0
    assert 0.0 < found["spike_rate"] < 1.0
