from pathlib import Path

import pytest

from torchnin import Run
from torchnin.commands.loading import load_classifier, on_the_hub


def test_a_path_and_the_name_of_weights_that_ship_are_loaded_as_by_load(trained: Run) -> None:
    assert load_classifier(str(trained.path), device="cpu").class_names == trained.classifier.class_names
    assert load_classifier("fashion-mnist-small", backend="torch").backend == "torch"


def test_a_place_on_the_hub_is_told_by_its_beginning_and_asked_for_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert all(on_the_hub(source) for source in ("hf-hub:me/digits", "hf-hub:me/digits@v1"))
    assert not any(on_the_hub(source) for source in ("me/digits", "mnist", "runs/hf-hub:me"))
    monkeypatch.setattr(pytest.importorskip("huggingface_hub.constants"), "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for source, place in (("hf-hub:me/digits", "me/digits"), ("hf-hub:me/digits@v1", "me/digits at v1")):
        with pytest.raises(ConnectionError, match=f"^{place} cannot be read: .*it was not downloaded before"):
            load_classifier(source, local_files_only=True)
