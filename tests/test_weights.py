"""The weights that ship are what their model cards say, on the whole test set and on the pictures inside the package."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import torchnin
from torchnin.models import shipped

ROOT = Path(__file__).parents[1]
FOLDER = Path(torchnin.__file__).parent / "weights"
NAMES = torchnin.list_weights()
# Another processor rounds otherwise, and a picture between two classes may fall to the other side.
NEAR_TIES = 3


def facts(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name / "card.json").read_text(encoding="utf-8"))


def test_they_lie_where_they_are_looked_for_and_take_at_most_12_megabytes() -> None:
    assert shipped.WEIGHTS == FOLDER
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 12_000_000
    for name in NAMES:
        assert {path.name for path in (FOLDER / name).iterdir()} == {"model.safetensors", "config.json", "card.json", "README.md"}


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_the_whole_test_set(name: str, request: pytest.FixtureRequest) -> None:
    classifier = torchnin.load(name)
    place = "fashion_mnist" if classifier.metadata["data"]["name"] == "fashion-mnist" else "shared_data"
    splits = torchnin.training.load_recorded(classifier.metadata["data"], data_dir=request.getfixturevalue(place))
    report, card = classifier.evaluate(splits.test), facts(name)["test"]
    assert report.num_pictures == card["num_pictures"] == 10_000
    assert abs(report.accuracy - card["accuracy"]) * report.num_pictures <= NEAR_TIES
    assert abs(report.confusion - torch.tensor(card["confusion"])).sum() <= 2 * NEAR_TIES
    assert report.calibration_error == pytest.approx(card["calibration_error"], abs=1e-3)
    assert classifier.metadata["test_accuracy"] == card["accuracy"]


@pytest.mark.parametrize("name", [name for name in NAMES if torchnin.weights_entry(name).data == "fashion-mnist"])
def test_accuracy_on_the_pictures_inside_the_package(name: str) -> None:
    report, card = torchnin.load(name).evaluate(torchnin.load_dataset("fashion-mnist-sample").test), facts(name)["sample"]
    assert report.num_pictures == card["num_pictures"] == 1_000
    assert abs(report.accuracy - card["accuracy"]) * report.num_pictures <= NEAR_TIES


def test_the_test_pictures_inside_the_package_were_not_trained_on(fashion_mnist: Path) -> None:
    def pictures(dataset: torchnin.ImageDataset) -> set[bytes]:
        return {picture.tobytes() for picture in dataset.images}

    sample, full = (torchnin.load_dataset(name, data_dir=fashion_mnist) for name in ("fashion-mnist-sample", "fashion-mnist"))
    inside = pictures(sample.test)
    assert len(inside) == 1_000
    assert inside <= pictures(full.test)
    assert not inside & pictures(full.train)


@pytest.mark.parametrize("name", NAMES)
def test_the_network_by_its_own_name_is_the_same(name: str) -> None:
    classifier = torchnin.load(name, device="cpu")
    config = classifier.network.config
    network = torchnin.create_model(
        torchnin.weights_entry(name).network, in_channels=config.in_channels, num_classes=config.num_classes, pretrained=name
    )
    trained = classifier.network.state_dict()
    assert all(torch.equal(tensor, trained[key]) for key, tensor in network.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_in_it_leads_back_to_the_machine_that_trained_it(name: str) -> None:
    text = "".join((FOLDER / name / file).read_text(encoding="utf-8") for file in ("config.json", "card.json", "README.md"))
    assert not [place for place in ("/home", "/root", "/tmp", "/work", "/usr", "/mnt") if f'"{place}' in text or f" {place}/" in text]


def test_wheel_and_source_carry_them() -> None:
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    wanted = {path.relative_to(ROOT / "src").as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    wheel = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    source = {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    assert wanted <= wheel
    assert {f"src/{path}" for path in wanted} | {"hatch_build.py", "src/torchnin/models/native/passes.c"} <= source
    assert not [path for path in source if path.endswith(".so")]
