import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from torchnin import NiN, NiNConfig, Recipe, create_model
from torchnin.training.monitor import Finding, Monitor
from torchnin.training.optimisation import initialise

COUNTS = [32] * 10
NAMES = [f"kind {number}" for number in range(10)]


def watch(network: NiN, pictures: Tensor, labels: Tensor, steps: int, monitor: Monitor | None = None) -> tuple[Monitor, list[Finding]]:
    """Forward passes as the loop makes them, with a look at the findings every tenth step."""
    monitor = monitor or Monitor(network, NAMES, COUNTS, 0, torch.device("cpu"))
    found: list[Finding] = []
    for step in range(steps):
        with torch.no_grad(), monitor.watching(step):
            logits = network(pictures)
        monitor.after_step(logits, nn.functional.cross_entropy(logits, labels), labels)
        if step % 10 == 9:
            found += monitor.findings(1, step + 1)
    return monitor, found


def alive(config: NiNConfig) -> NiN:
    """A network with a bias in its class maps, all of them positive."""
    torch.manual_seed(0)
    network = NiN(replace(config, batch_norm=False)).eval()
    initialise(network, Recipe(initialisation="alive"))
    return network


def last_layer(network: NiN) -> nn.Conv2d:
    return [layer for layer in network.class_block.modules() if isinstance(layer, nn.Conv2d)][-1]


PICTURES, LABELS = torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10


def test_nothing_is_said_of_a_healthy_network(tiny: NiNConfig) -> None:
    monitor, found = watch(alive(tiny), PICTURES, LABELS, 100)
    assert found == []
    assert monitor.dead_class_maps == []
    assert monitor.dead_channels.keys() == {"block 1", "block 2"}


def test_a_dead_class_map_is_said_once_with_its_class(tiny: NiNConfig) -> None:
    network = alive(tiny)
    with torch.no_grad():
        last_layer(network).weight[3] = 0
        last_layer(network).bias[3] = -1  # type: ignore[index]
    monitor, found = watch(network, PICTURES, LABELS, 200)
    assert monitor.dead_class_maps == [3]
    (finding,) = [finding for finding in found if finding.kind == "dead class maps"]
    assert finding.step == 50
    assert "1 of 10 classes are dead" in finding.message
    assert "kind 3)" in finding.message
    assert "use --recipe steady" in finding.message
    assert Finding(**finding.to_dict()) == finding

    # Another one dies later: one more sentence, that names both.
    with torch.no_grad():
        last_layer(network).weight[7] = 0
        last_layer(network).bias[7] = -1  # type: ignore[index]
    _, later = watch(network, PICTURES, LABELS, 100, monitor)
    (second,) = [finding for finding in later if finding.kind == "dead class maps"]
    assert "kind 3, kind 7)" in second.message


def test_a_map_that_lives_for_one_picture_is_not_dead(tiny: NiNConfig) -> None:
    network = alive(tiny)
    monitor = Monitor(network, NAMES, COUNTS, 0, torch.device("cpu"))
    logits = torch.zeros(16, 10)
    for step in range(120):
        logits[5, 2] = float(step % 49 == 0)
        logits[:, [number for number in range(10) if number != 2]] = 1.0
        monitor.after_step(logits, torch.tensor(1.0), LABELS)
    assert monitor.dead_class_maps == []


def test_maps_without_relu_cannot_die() -> None:
    network = create_model("nin_small").eval()
    with torch.no_grad():
        for parameter in network.class_block.parameters():
            parameter.zero_()
    monitor, found = watch(network, PICTURES, LABELS, 60)
    assert monitor.dead_class_maps == []
    assert [finding.kind for finding in found if finding.kind == "dead class maps"] == []


def test_dead_channels_of_a_block_are_said_once(tiny: NiNConfig) -> None:
    network = alive(tiny)
    second = [layer for layer in network.body[2].modules() if isinstance(layer, nn.Conv2d)][-1]
    with torch.no_grad():
        second.weight[:10] = 0
        second.bias[:10] = -1  # type: ignore[index]
    monitor, found = watch(network, PICTURES, LABELS, 110)
    assert monitor.dead_channels["block 2"] >= 10 / 16
    (finding,) = [finding for finding in found if finding.kind == "dead channels"]
    assert "of the channels of block 2 are zero for every picture" in finding.message


def test_a_loss_of_guessing_is_said_after_the_warm_up(tiny: NiNConfig) -> None:
    for warmup, expected in ((0, ["loss stuck"]), (800, [])):
        monitor = Monitor(alive(tiny), NAMES, COUNTS, warmup, torch.device("cpu"))
        found: list[Finding] = []
        for step in range(800):
            monitor.after_step(torch.ones(4, 10), torch.tensor(math.log(10) + 0.001 * (-1) ** step), LABELS[:4])
            found += monitor.findings(1, step + 1)
        assert [finding.kind for finding in found] == expected


def test_an_accuracy_of_guessing_is_said_once(tiny: NiNConfig) -> None:
    monitor = Monitor(alive(tiny), NAMES, [5000] * 9 + [15000], 0, torch.device("cpu"))
    assert monitor.after_epoch(1, 1000, 0.6) == []
    (finding,) = monitor.after_epoch(2, 2000, 0.25)  # the commonest class is a quarter of the pictures
    assert "train accuracy is 0.250, no better than guessing (0.250)" in finding.message
    assert monitor.after_epoch(3, 3000, 0.25) == []


def test_a_class_that_is_never_right_is_said_once_though_its_map_lives(tiny: NiNConfig) -> None:
    monitor = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    labels = torch.arange(320) % 10
    answers = nn.functional.one_hot(torch.where(labels == 4, 6, labels), 10) + 0.5
    found = []
    for epoch in range(1, 4):
        monitor.after_step(answers, torch.tensor(1.0), labels)
        found += monitor.after_epoch(epoch, 1000 * epoch, 0.9)
    (finding,) = found
    assert finding.kind == "classes not recognised"
    assert finding.epoch == 1
    assert "1 of 10 classes are not recognised (kind 4)" in finding.message
    assert not finding.serious

    # Where little is learned at all yet, or every class has its right answers, there is nothing to say.
    again = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    again.after_step(answers, torch.tensor(1.0), labels)
    assert again.after_epoch(1, 1000, 0.25) == []
    again.after_step(nn.functional.one_hot(labels, 10) + 0.5, torch.tensor(1.0), labels)
    assert again.after_epoch(2, 2000, 1.0) == []


def test_what_was_said_is_remembered_in_a_checkpoint(tiny: NiNConfig) -> None:
    network = alive(tiny)
    with torch.no_grad():
        last_layer(network).weight[3] = 0
        last_layer(network).bias[3] = -1  # type: ignore[index]
    monitor, found = watch(network, PICTURES, LABELS, 60)
    assert found
    tensors, plain = monitor.state()
    again = Monitor(network, NAMES, COUNTS, 0, torch.device("cpu"))
    again.restore(tensors, plain)
    _, later = watch(network, PICTURES, LABELS, 60, again)
    assert later == []
    assert again.dead_class_maps == [3]
