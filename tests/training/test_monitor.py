import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from torchnin import NiN, NiNConfig, Recipe, create_model
from torchnin.training.growth import Growth
from torchnin.training.monitor import Finding, Finite, Monitor
from torchnin.training.optimisation import gradient_norm, initialise, turned_by_muon

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


def test_of_many_dead_class_maps_the_first_are_named(tiny: NiNConfig) -> None:
    network = NiN(replace(tiny, num_classes=300)).eval()
    monitor = Monitor(network, [f"kind {number}" for number in range(300)], [1] * 300, 0, torch.device("cpu"))
    labels = torch.arange(300)
    for _ in range(60):
        monitor.after_step(torch.zeros(300, 300), torch.tensor(5.0), labels)
    (finding,) = monitor.findings(1, 60)
    assert "the maps of 300 of 300 classes are dead (zero for every picture: kind 0, " in finding.message
    assert "kind 9, ...);" in finding.message
    assert monitor.findings(1, 61) == []


def test_a_map_that_lives_for_one_picture_is_not_dead(tiny: NiNConfig) -> None:
    network = alive(tiny)
    monitor = Monitor(network, NAMES, COUNTS, 0, torch.device("cpu"))
    logits = torch.zeros(16, 10)
    for step in range(120):
        logits[5, 2] = float(step % 49 == 0)
        logits[:, [number for number in range(10) if number != 2]] = 1.0
        monitor.after_step(logits, torch.tensor(1.0), LABELS)
    assert monitor.dead_class_maps == []


def test_a_map_is_not_dead_because_its_class_is_rare(tiny: NiNConfig) -> None:
    # As in a network that has learned: zero for the pictures of all other classes, which are all that most batches hold.
    monitor = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    labels = torch.arange(18) % 9
    for _ in range(400):
        monitor.after_step(nn.functional.one_hot(labels, 10).float(), torch.tensor(0.1), labels)
    assert monitor.dead_class_maps == []
    assert monitor.healthy
    with_it = torch.tensor([9, 0])
    for _ in range(50):  # dead it is where its own pictures do not wake it either
        monitor.after_step(nn.functional.one_hot(torch.tensor([0, 0]), 10).float(), torch.tensor(0.1), with_it)
    assert monitor.dead_class_maps == [9]
    assert not monitor.healthy


def test_a_state_is_no_good_one_long_before_a_map_is_called_dead(tiny: NiNConfig) -> None:
    monitor = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    labels = torch.arange(10)
    silent = torch.ones(10, 10)
    silent[:, 3] = 0
    for steps, healthy in ((4, True), (1, False)):
        for _ in range(steps):
            monitor.after_step(silent, torch.tensor(1.0), labels)
        assert monitor.healthy is healthy
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


def test_a_state_that_is_kept_to_go_back_to_stays_as_it_was(tiny: NiNConfig) -> None:
    monitor, _ = watch(alive(tiny), PICTURES, LABELS, 50)
    _, kept = monitor.state()
    watch(monitor.network, PICTURES, LABELS, 100, monitor)
    assert monitor.dead_channels
    assert kept["dead_channels"] == {}


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


def test_trained_weights_that_forget_are_said_once(tiny: NiNConfig) -> None:
    monitor = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"), gentler="a lower --lr (now 0.3)")
    assert monitor.after_epoch(2, 1000, 0.90, known=0.93) == []
    (finding,) = monitor.after_epoch(3, 1500, 0.78, known=0.93)
    assert (finding.kind, finding.serious) == ("unlearning", False)
    assert "has fallen from 0.930 in the first epoch to 0.780" in finding.message
    assert finding.message.endswith("a lower --lr (now 0.3) keeps it")
    assert monitor.after_epoch(4, 2000, 0.78, known=0.93) == []


@pytest.mark.parametrize("counts", [[9900, 100], [4900, 100], [190, 10], [4, 4]])
def test_a_perfect_accuracy_is_never_that_of_guessing(tiny: NiNConfig, counts: list[int]) -> None:
    network = NiN(replace(tiny, num_classes=2))
    monitor = Monitor(network, NAMES[:2], counts, 0, torch.device("cpu"))
    assert monitor.after_epoch(1, 1000, 1.0) == []
    (finding,) = monitor.after_epoch(2, 2000, max(counts) / sum(counts))
    assert finding.kind == "accuracy at chance"


def test_where_classes_are_balanced_guessing_is_told_by_their_recalls(tiny: NiNConfig) -> None:
    network = NiN(replace(tiny, num_classes=2))
    labels = torch.tensor([0] * 90 + [1] * 10)
    for answers, expected in ((torch.tensor([0] * 70 + [1] * 30), []), (torch.zeros(100, dtype=torch.int64), ["accuracy at chance"])):
        monitor = Monitor(network, NAMES[:2], [90, 10], 0, torch.device("cpu"), balanced=True)
        monitor.after_step(nn.functional.one_hot(answers, 2).float(), torch.tensor(0.5), labels)
        accuracy = float((answers == labels).float().mean())  # .8 and .9: the better network has the lower one
        assert [finding.kind for finding in monitor.after_epoch(1, 1000, accuracy)] == expected


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
    assert "their maps may get next to no gradient" in finding.message
    assert not finding.serious

    # Without a ReLU behind them maps have their gradient.
    plain = Monitor(NiN(replace(tiny, class_map_relu=False)), NAMES, COUNTS, 0, torch.device("cpu"))
    plain.after_step(answers, torch.tensor(1.0), labels)
    (finding,) = plain.after_epoch(1, 1000, 0.9)
    assert "(kind 4); " in finding.message

    # Where little is learned at all yet, or every class has its right answers, there is nothing to say.
    again = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    again.after_step(answers, torch.tensor(1.0), labels)
    assert again.after_epoch(1, 1000, 0.25) == []
    again.after_step(nn.functional.one_hot(labels, 10) + 0.5, torch.tensor(1.0), labels)
    assert again.after_epoch(2, 2000, 1.0) == []


def test_a_class_of_which_easy_pictures_were_left_out_is_not_taken_for_one_that_is_not_recognised(tiny: NiNConfig) -> None:
    monitor = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    labels = torch.arange(320) % 10
    few = labels[(labels != 4) | (torch.arange(320) < 10)]  # thinning left one picture of class 4, and it was a hard one
    answers = nn.functional.one_hot(torch.where(few == 4, 6, few), 10) + 0.5
    monitor.after_step(answers, torch.tensor(1.0), few)
    assert monitor.after_epoch(1, 1000, 0.99) == []
    without = labels[labels != 4]
    monitor.after_step(nn.functional.one_hot(without, 10) + 0.5, torch.tensor(1.0), without)
    assert monitor.after_epoch(2, 2000, 1.0) == []


def test_after_going_back_a_network_has_time_to_learn_again(tiny: NiNConfig) -> None:
    monitor = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    assert monitor.after_epoch(3, 1000, 0.1) != []
    monitor.forget(900)
    assert monitor.after_epoch(3, 1000, 0.1) == []
    assert monitor.after_epoch(4, 1100, 0.1) != []


def test_what_is_serious_is_said_again_where_something_is_to_be_done_about_it(tiny: NiNConfig) -> None:
    monitor = Monitor(alive(tiny), NAMES, COUNTS, 0, torch.device("cpu"))
    monitor.said = {"dead class map 3", "loss stuck", "accuracy at chance", "dead channels block 1"}
    monitor.say_again()
    assert monitor.said == {"dead channels block 1"}


def test_norms_are_taken_on_devices_without_kernels_for_many_tensors(tiny: NiNConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # As on Apple's GPUs: torch refuses foreach=True there, and takes one tensor after the other where it is not asked for.
    monkeypatch.setattr("torch.nn.utils.clip_grad._device_has_foreach_support", lambda device: False)
    monkeypatch.setattr("torch.nn.utils.clip_grad._has_foreach_support", lambda tensors, device: False)
    network = alive(tiny)
    network(PICTURES).sum().backward()
    assert gradient_norm(network.parameters()) > 0
    Finite(network, Recipe(), 10, Path("checkpoint")).check_weights(1)


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


def test_weights_that_nothing_holds_are_said_once_when_they_have_grown(tiny: NiNConfig) -> None:
    recipe, network = Recipe(optimizer="muon", keep_norms=False), alive(tiny)
    monitor = Monitor(network, NAMES, COUNTS, 0, torch.device("cpu"), growth=Growth(network, recipe))
    monitor.right += 32
    assert monitor.after_epoch(1, 500, 1.0) == []
    weights = turned_by_muon(network, recipe)
    with torch.no_grad():
        weights[0] *= 2.9
        weights[1] *= 3.5
        network.body[0][0].weight.mul_(9)  # type: ignore[index,union-attr]  # the first convolution learns by SGD
    again = Monitor(network, NAMES, COUNTS, 0, torch.device("cpu"), growth=Growth(network, recipe))  # as after an interruption
    again.restore(*monitor.state())
    for each in (monitor, again):
        each.right += 32
        (finding,) = each.after_epoch(2, 600, 1.0)
        assert (finding.kind, finding.serious) == ("weights grow", False)
        name = next(name for name, parameter in network.named_parameters() if parameter is weights[1])
        assert finding.message.startswith(f"the weights {name} have grown to 3.5 times their first norm")
        each.right += 32
        assert each.after_epoch(3, 700, 1.0) == []
