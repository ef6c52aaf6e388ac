import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from torchnin import (
    CollapseError,
    DatasetSplits,
    DivergenceError,
    ImageDataset,
    NiN,
    NiNConfig,
    Recipe,
    Run,
    create_model,
    named_recipe,
    train,
)
from torchnin.data import Batches, derived_seed
from torchnin.training import resume
from torchnin.training.checkpoint import read_checkpoint
from torchnin.training.optimisation import level_class_maps

# What training the tiny network on the few pictures by GOLDEN gives, epoch after epoch: a refactor must leave it as it is.
GOLDEN = Recipe(
    num_epochs=2, batch_size=32, lr=0.1, optimizer="sgd", momentum=0.9, weight_decay=5e-4, schedule="linear", warmup=0.2,
    label_smoothing=0.1, clip_norm=1.0, ema_decay=0.9, initialisation="as built",
)  # fmt: skip
GOLDEN_LOSSES = [2.20537, 1.88522]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return read_checkpoint(run.path / "checkpoint")[0].tensors


def test_the_same_seed_gives_the_same_bits(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    runs = [train(tiny, few, GOLDEN, out=tmp_path / str(number), seed=1, device="cpu", dtype="float32", quiet=True) for number in range(2)]
    first, second = map(weights, runs)
    assert {name for name in first if not torch.equal(first[name], second[name])} == set()
    assert [row["train_loss"] for row in runs[0].metrics] == [row["train_loss"] for row in runs[1].metrics]
    other = train(tiny, few, GOLDEN, out=tmp_path / "other", seed=2, device="cpu", dtype="float32", quiet=True)
    assert other.metrics[0]["train_loss"] != runs[0].metrics[0]["train_loss"]
    # Rounding differs a little between processors, and learning magnifies it.
    assert [row["train_loss"] for row in runs[0].metrics] == pytest.approx(GOLDEN_LOSSES, rel=1e-3)


def test_d2l_is_train_ch6_step_by_step(few: DatasetSplits, tmp_path: Path) -> None:
    """The notebooks' procedure by hand: Xavier-uniform weights, plain SGD, cross-entropy, pixels in [0, 1], bilinear resize."""
    seed, size, pictures = 3, 80, 24
    train_part = few.train.select(np.arange(pictures))
    splits = DatasetSplits(name="few", train=train_part, test=few.test.select(np.arange(10)), source="here")
    config = create_model("nin_d2l", dropout=0.0).config  # the masks of dropout are nobody's procedure
    # The biases, which Xavier leaves as built. With some seeds a value lies so near a ReLU's edge that rounding decides (2e-5 of a weight).
    torch.manual_seed(1)
    built = NiN(config)
    by_hand = NiN(config)
    by_hand.load_state_dict(built.state_dict())
    recipe = Recipe.from_dict({**named_recipe("d2l").to_dict(), "num_epochs": 2, "batch_size": 8, "image_size": size})

    run = train(built, splits, recipe, out=tmp_path / "run", seed=seed, device="cpu", dtype="float32", quiet=True)

    torch.manual_seed(derived_seed(seed, "initialisation"))

    def init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)

    by_hand.apply(init_weights)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    loss = nn.CrossEntropyLoss()
    by_hand.train()
    for epoch, row in enumerate(run.metrics):
        losses, right = [], 0
        for batch in Batches(train_part, batch_size=8, device=torch.device("cpu"), seed=seed).epoch(epoch):
            x = F.interpolate(batch.pictures.float(), size=(size, size), mode="bilinear", align_corners=False) / 255
            optimizer.zero_grad()
            y_hat = by_hand(x)
            step_loss = loss(y_hat, batch.labels)
            step_loss.backward()
            optimizer.step()
            losses.append(step_loss.item())
            right += int((y_hat.argmax(1) == batch.labels).sum())
        assert row["train_loss"] == pytest.approx(np.mean(losses), abs=1e-5)
        assert row["train_accuracy"] == right / pictures
        assert row["lr"] == 0.1
    for name, value in by_hand.state_dict().items():
        torch.testing.assert_close(weights(run)[f"network.{name}"], value, rtol=1e-4, atol=2e-5)


def test_a_rate_that_bursts_stops_at_once_and_keeps_a_good_state(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    for name, fields in {"plain": {}, "clipped": {"clip_norm": 1.0}, "one step an epoch": {"batch_size": 320}}.items():
        burst = Recipe(num_epochs=3, batch_size=32, optimizer="sgd", lr=1e30, warmup=0.0, clip_norm=None, ema_decay=0.9)
        recipe = dataclasses.replace(burst, **fields)  # type: ignore[arg-type]
        with pytest.raises(DivergenceError, match=r"is (nan|inf) at step .*train anew with a lower --lr \(now 1e\+30\)") as caught:
            train(tiny, few, recipe, out=tmp_path / name, dtype="float32", quiet=True)
        assert str(tmp_path / name / "checkpoint") in str(caught.value)
        state, broken = read_checkpoint(tmp_path / name / "checkpoint")
        assert broken == []
        assert all(bool(torch.isfinite(value).all()) for value in state.tensors.values())
        assert not (tmp_path / name / "classifier").exists()
        (row,) = Run(tmp_path / name).metrics
        assert (row["epoch"], row["unfinished"], row["dead_class_maps"]) == (1, True, 0)
        (finding,) = row["findings"]
        assert finding["kind"] == "not finite"
        assert str(caught.value).startswith(finding["message"].partition(";")[0])


def test_the_line_of_a_burst_gives_way_to_the_epochs_own_when_resumed(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    network, out, recipe = NiN(tiny), tmp_path / "run", Recipe(num_epochs=3, batch_size=80)

    def burst(_run: Run) -> None:
        nn.init.constant_(next(network.parameters()), math.inf)

    with pytest.raises(DivergenceError):
        train(network, few, recipe, out=out, quiet=True, on_epoch=burst)
    first, second = Run(out).metrics
    assert (second["epoch"], second["train_loss"], second["unfinished"]) == (2, None, True)
    assert [(finding["kind"], finding["epoch"], finding["step"]) for finding in second["findings"]] == [("not finite", 2, 5)]
    metrics = train(network, few, recipe, out=out, quiet=True, resume=True).metrics
    assert metrics[0] == first
    assert [row["epoch"] for row in metrics] == [1, 2, 3]
    assert not any(row["findings"] or "unfinished" in row for row in metrics)


@pytest.mark.parametrize(
    ("pictures", "batch_size"),
    [pytest.param(100, 2, id="found in the last step of an epoch"), pytest.param(320, 4, id="found in mid-epoch")],
)
def test_stop_on_collapse_can_be_gone_on_with(pictures: int, batch_size: int, few: DatasetSplits, tiny: NiNConfig, tmp_path: Path) -> None:
    splits = DatasetSplits(name="few", train=few.train.select(np.arange(pictures)), test=few.test, source="here")
    network = NiN(tiny)
    last = [layer for layer in network.class_block.modules() if isinstance(layer, nn.Conv2d)][-1]
    nn.init.constant_(last.weight, 0.0)
    recipe = Recipe(num_epochs=3, batch_size=batch_size, lr=1e-3, optimizer="sgd", initialisation="as built")
    out = tmp_path / "run"
    with pytest.raises(CollapseError, match="as asked: the maps of 10 of 10 classes are dead"):
        train(network, splits, recipe, out=out, on_collapse="stop", quiet=True)
    stopped = Run(out)
    assert not stopped.finished
    assert stopped.resumable
    assert [finding["kind"] for row in stopped.metrics for finding in row["findings"]].count("dead class maps") == 1
    run = train(network, splits, recipe, out=out, resume=True, on_collapse="warn", quiet=True)
    assert [row["epoch"] for row in run.metrics] == [1, 2, 3]
    assert all(row["train_loss"] == pytest.approx(math.log(10), abs=1e-6) for row in run.metrics)
    assert all(row["dead_class_maps"] == 10 for row in run.metrics)
    found = [finding["kind"] for row in run.metrics for finding in row["findings"]]
    assert len(found) == len(set(found))
    assert {"dead class maps", "loss stuck", "accuracy at chance"} >= set(found) >= {"dead class maps"}


@pytest.mark.parametrize("level", [False, True])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_class_maps_are_levelled_where_the_recipe_asks(level: bool, ema_decay: float, few: DatasetSplits, tmp_path: Path) -> None:
    recipe = Recipe(
        num_epochs=1,
        batch_size=160,
        optimizer="sgd",
        lr=1e-12,
        momentum=0.0,
        weight_decay=0.0,
        initialisation="alive",
        ema_decay=ema_decay,
        level_class_maps=level,
    )
    run = train("nin_mnist", few, recipe, out=tmp_path / "run", seed=3, dtype="float32", quiet=True)
    network, last = run.classifier.network, run.classifier.network.class_block[-2]
    weights = last.weight.detach().clone()
    some = Batches(few.train, batch_size=2, device=torch.device("cpu"), seed=3).some(256)
    level_class_maps(network, some, run.classifier.preprocessing)
    # What is levelled already stays.
    assert torch.allclose(last.weight, weights, atol=1e-6) == level


def test_held_out_pictures_are_measured_and_not_learned(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    recipe = Recipe(num_epochs=1, batch_size=40)
    run = train(tiny, few, recipe, out=tmp_path / "run", validation=0.25, dtype="float32", quiet=True)
    learned, held_out = few.train.split(0.25, seed=derived_seed(0, "validation"))
    assert run.config["data"]["train_pictures"] == len(learned)
    assert run.config["data"]["validation_pictures"] == len(held_out)
    # What was measured is what the classifier says of them.
    assert run.metrics[-1]["validation_accuracy"] == pytest.approx(run.classifier.evaluate(held_out).accuracy)
    assert run.result["validation_accuracy"] == run.metrics[-1]["validation_accuracy"]
    assert run.result["test_accuracy"] == run.classifier.evaluate(few.test).accuracy


def test_rare_classes_weigh_more_when_asked(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    """With weights n / (k * count), the mean loss of a network that answers nothing is ln(k) either way; an uneven one moves."""
    labels = few.train.labels
    kept = np.concatenate([np.flatnonzero(labels == 0), *(np.flatnonzero(labels == label)[:3] for label in range(1, 10))])
    uneven = ImageDataset(few.train.images[kept], labels[kept], few.class_names)
    splits = DatasetSplits(name="few", train=uneven, test=few.test, source="here")
    rows: list[dict[str, Any]] = []
    for weighed in (False, True):
        recipe = Recipe(num_epochs=4, batch_size=20, lr=0.02, class_weights=weighed, optimizer="sgd")
        rows.append(train(tiny, splits, recipe, out=tmp_path / str(weighed), quiet=True).metrics[-1])
    assert rows[0]["train_loss"] != rows[1]["train_loss"]


def test_arrays_are_not_found_again_and_that_is_said(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    data = ((few.train.images, few.train.labels), (few.test.images, few.test.labels))
    recipe = Recipe(num_epochs=1, batch_size=80)
    run = train(tiny, data, recipe, out=tmp_path / "run", quiet=True)
    (run.path / "result.json").unlink()
    with pytest.raises(ValueError, match="was trained on arrays; go on with torchnin"):
        resume(run.path, quiet=True)
    assert train(tiny, data, recipe, out=run.path, resume=True, quiet=True).finished
