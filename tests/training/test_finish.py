from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torchnin import DatasetSplits, NiNConfig, Recipe, train


def test_the_curves_have_the_test_accuracy(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    monkeypatch.setattr("torchnin.training.finish.training_curves", lambda rows, path, *, test_accuracy: drawn.append(test_accuracy))
    run = train(tiny, few, Recipe(num_epochs=1, batch_size=80), out=tmp_path / "run", quiet=True)
    assert drawn == [run.result["test_accuracy"]]


def test_a_short_training_that_learns_nothing_says_so_when_it_ends(
    few: DatasetSplits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = replace(few.train, images=np.full_like(np.asarray(few.train.images), 128))
    for number, (train_set, expected) in enumerate(((grey, True), (few.train, False))):
        data = replace(few, train=train_set, test=train_set)
        train("nin_small", data, Recipe(num_epochs=6, lr=0.1, muon_lr=0.05, batch_size=40), out=tmp_path / str(number))
        assert ("no better than guessing" in capsys.readouterr().err) == expected
