from pathlib import Path

from PIL import Image

from torchnin import DatasetSplits, Run
from torchnin.web.samples import samples_json


def test_samples_of_a_run_on_pictures_in_a_folder(trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    names = trained.classifier.class_names
    for label in (0, 3):
        folder = tmp_path / "test" / names[label].replace("/", "_")
        folder.mkdir(parents=True)
        (folder / "by day").mkdir()
        Image.fromarray(few.test.images[few.test.labels == label][0, 0]).save(folder / "by day" / "first.png")
        (folder / "._first.png").write_bytes(b"what macOS leaves beside a picture")
    classifier = trained.classifier
    kept = dict(classifier.metadata)
    try:
        classifier.metadata["data"] = {"name": str(tmp_path), "source": str(tmp_path)}
        found = samples_json(classifier)["samples"]
        assert [sample["label"] for sample in found] == [names[3]]  # "T-shirt/top" is no name of a folder
        assert found[0]["picture"].startswith("data:image/png;base64,")
        (tmp_path / "test" / names[3] / "broken.png").write_bytes(b"left out by --skip-broken")
        assert samples_json(classifier)["samples"] == found
        (tmp_path / "test").rename(tmp_path / "Val")
        assert samples_json(classifier)["samples"] == found
        assert samples_json(classifier, own=False) == {"samples": []}
        classifier.metadata["data"] = {"name": "fashion-mnist-sample", "source": "inside the package"}
        assert [sample["label"] for sample in samples_json(classifier)["samples"]] == list(names)
        classifier.metadata["data"] = {}
        assert samples_json(classifier) == {"samples": []}
    finally:
        classifier.metadata.clear()
        classifier.metadata.update(kept)
