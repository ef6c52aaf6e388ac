"""A network that is not what its configuration describes is not saved, and one that differs in nothing that counts is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from torchnin import DatasetSplits, NiN, NiNConfig, Run, load, train
from torchnin.models.described import require_described, unfilled


def _prune(network: NiN) -> None:
    prune.l1_unstructured(network.body[0][0], "weight", 0.5)


NOT_DESCRIBED: dict[str, tuple[Callable[[NiN], None], str]] = {
    "pruned": (_prune, r"body\.0\.0\.weight_mask is none of its weights; .*torch\.nn\.utils\.prune\.remove\(module, 'weight'\)"),
    "another activation": (lambda network: network.body[0].__setitem__(2, nn.LeakyReLU()), r"body\.0\.2 is LeakyReLU\(.* not ReLU\(\)"),
    "another pooling": (lambda network: network.body.__setitem__(1, nn.MaxPool2d(2)), r"body\.1 is MaxPool2d\(kernel_size=2"),
    "another width": (
        lambda network: network.body[0].__setitem__(0, nn.Conv2d(1, 8, 3, bias=False)),
        r"\(8, 1, 3, 3\) and not \(8, 1, 5, 5\)",
    ),
    "no activation": (lambda network: network.body[0].__setitem__(2, nn.Identity()), r"body\.0\.2 is nothing and not ReLU\(\)"),
    "another rest": (lambda network: network.body[0][1].__setattr__("eps", 0.1), r"eps=0\.1"),
    "another head": (lambda network: network.head.__setitem__(0, nn.AdaptiveMaxPool2d(1)), r"head\.0 is AdaptiveMaxPool2d"),
}


@pytest.mark.parametrize(("change", "said"), NOT_DESCRIBED.values(), ids=NOT_DESCRIBED)
def test_a_network_that_would_be_read_as_another_is_not_saved(
    change: Callable[[NiN], None], said: str, trained: Run, few: DatasetSplits, tmp_path: Path
) -> None:
    classifier = load(trained.path)
    change(classifier.network)
    with pytest.raises(ValueError, match=said):
        classifier.save(tmp_path / "saved")
    with pytest.raises(ValueError, match=said):
        train(classifier.network, few, out=tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_what_changes_nothing_at_rest_is_saved(trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    classifier = load(trained.path)
    network, pixels = classifier.network, torch.from_numpy(few.test.images)
    network.body[0][1].momentum = 0.01
    network.body[0][2] = nn.ReLU()
    network.body[4] = nn.Identity()
    _prune(network)
    prune.remove(network.body[0][0], "weight")
    assert torch.equal(load(classifier.save(tmp_path / "saved")).logits(pixels), classifier.logits(pixels))


def test_a_described_network_takes_no_memory_and_draws_nothing(tiny: NiNConfig) -> None:
    state = torch.get_rng_state()
    network = unfilled(tiny)
    assert torch.equal(torch.get_rng_state(), state)
    assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
    expected = {name: tensor.shape for name, tensor in NiN(tiny).state_dict().items()}
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == expected
    require_described(network)
