"""Classifiers on the Hugging Face Hub; needs huggingface_hub (`pip install 'torchnin[hub]'`).

    from torchnin.integrations.hub import load_from_hub, push_to_hub

    push_to_hub(classifier, "me/shirts", license="mit")       # after `hf auth login`
    load_from_hub("me/shirts").predict("shirt.png")

What lies there is what `Classifier.save` writes, so nothing that is loaded runs code; `HF_ENDPOINT` names another host, such as a mirror.
"""

import contextlib
import copy
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from torchnin.classifier import Classifier
from torchnin.data.pictures import PictureSource
from torchnin.files import cache_folder, is_file, utf8
from torchnin.onnx_network import Backend
from torchnin.saved import known_as, number_in, record_of_data, without_places
from torchnin.version import __version__

try:
    from huggingface_hub import EvalResult, HfApi, ModelCardData, snapshot_download
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of the HTTP library under it
        HfHubHTTPError,
        HTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"the Hub needs {missing.name}, which is not installed: pip install 'torchnin[hub]'", name=missing.name
    ) from missing

__all__ = ["load_from_hub", "model_card", "push_to_hub"]

_FILES = ("config.json", "model.safetensors")
_PICTURE = "class-maps.png"
# What the Hub calls the named datasets.
_DATASETS = {
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "mnist": "ylecun/mnist",
    "cifar-10": "uoft-cs/cifar10",
    "cifar-100": "uoft-cs/cifar100",
}

_GAP = "It ends in one class map per class, whose mean is that class's logit: what it saw where is exact arithmetic."
_FC = "A fully connected layer makes the logits of its class maps."
_CARD = """---
{data}
---

# {title}

A Network in Network of {parameters} parameters ([Lin, Chen, Yan 2013](https://arxiv.org/abs/1312.4400)){trained}. {kind}
{picture}
## Use

    pip install 'torchnin[hub,plot]'

```python
from torchnin.integrations.hub import load_from_hub

classifier = load_from_hub("{repo_id}")
classifier.predict("picture.png")                       # label, probability, probabilities
{explain}```

## What it takes and gives

Any picture, converted to {channels} and stretched to {width}x{height} pixels; one of {num_classes} classes: {classes}.

{quality}"""


def push_to_hub(
    classifier: Classifier,
    repo_id: str,
    *,
    license: str | None = None,
    picture: PictureSource | None = None,
    half: bool = False,
    private: bool | None = None,
    revision: str | None = None,
    replace_card: bool = False,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Upload a classifier with a model card; the repository is made where there is none.

    Args:
        classifier: what to upload.
        repo_id: `owner/name`.
        license: of the weights, as the Hub names licences (`mit`, `cc-by-4.0`); None says nothing.
        picture: one whose class maps are shown on the card.
        half: store the weights in float16 (`Classifier.save`).
        private: whether a new repository is; None takes the owner's default.
        revision: the branch; None is the main one.
        replace_card: write the card anew where there is one; else a card that is there stays as it is.
        commit_message: None says what was uploaded.
        token: None takes that of `hf auth login`, or of `HF_TOKEN`.

    Returns:
        The commit's address.

    Of where the data lie on this machine nothing is uploaded.

    Warns:
        UserWarning: the card stays as it is, so that `license` or `picture` has no effect.

    Raises:
        TypeError: `classifier` is none.
        ValueError: `repo_id` is no name of a repository with its owner, or the branch does not exist.
        ModuleNotFoundError: a picture is to be drawn, and the extra `plot` is not installed.
        PermissionError: there is no token, or it may not write there.
        ConnectionError: the Hub cannot be reached.
    """
    if not isinstance(classifier, Classifier):
        raise TypeError(f"classifier is of type {type(classifier).__name__}; accepted: a Classifier, such as torchnin.load('runs/first')")
    if "/" not in repo_id:
        raise ValueError(f"{repo_id!r} names no owner; a repository is written to as owner/name")
    api = HfApi(token=token, library_name="torchnin", library_version=__version__)
    with _told(repo_id, revision, "written to"), tempfile.TemporaryDirectory(prefix="torchnin-") as name:
        told = copy.copy(classifier)
        told.metadata = without_places(classifier.metadata)
        folder = told.save(name, half=half)
        if replace_card or not api.file_exists(repo_id, "README.md", revision=revision):
            if picture is not None:
                classifier.explain(picture).save(folder / _PICTURE)
            card = model_card(told, repo_id, license=license, has_picture=picture is not None)
            (folder / "README.md").write_bytes(utf8(card))
        elif idle := [name for name, given in (("license", license), ("picture", picture)) if given is not None]:
            sentence = f"{repo_id} has a card, which stays as it is, without {' and '.join(idle)}; replace_card=True writes it anew"
            warnings.warn(sentence, stacklevel=2)
        if revision is not None and not api.revision_exists(repo_id, revision):
            raise ValueError(f"{repo_id} has no revision {revision!r} on the Hub")
        api.create_repo(repo_id, private=private, exist_ok=True)  # last, so that nothing is left empty where something goes wrong before
        message = commit_message or f"{classifier.metadata.get('name') or 'A Network in Network'}, from torchnin {__version__}"
        return api.upload_folder(repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message).commit_url


def load_from_hub(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    device: str = "auto",
    backend: Backend = "auto",
) -> Classifier:
    """Download a classifier, once, and load it.

    Args:
        repo_id: `owner/name`.
        revision: a branch, tag or commit; None is the main branch as it is now. A commit is always the same classifier.
        token: for private repositories; None takes that of `hf auth login`, or of `HF_TOKEN`.
        cache_dir: where downloads are kept; None is `hub` in torchnin's own cache (`$TORCHNIN_HOME`).
        local_files_only: ask nothing of the network; what was downloaded before is taken.
        device, backend: as for `Classifier`.

    Raises:
        ValueError: there is no such repository or revision, or not for this token, or it holds no classifier of torchnin.
        ConnectionError: the Hub cannot be reached, and the classifier was not downloaded before.
        DataError: its files are broken.
    """
    with _told(repo_id, revision, "read"):
        path = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                token=token,
                cache_dir=cache_folder() / "hub" if cache_dir is None else Path(cache_dir),
                allow_patterns=list(_FILES),
                local_files_only=local_files_only,
                library_name="torchnin",
                library_version=__version__,
            )
        )
    if missing := [name for name in _FILES if not is_file(path / name)]:
        raise ValueError(f"{repo_id} holds no classifier of torchnin: {' and '.join(missing)} missing; push_to_hub uploads one")
    return Classifier.load(path, device=device, backend=backend)


def model_card(classifier: Classifier, repo_id: str, *, license: str | None = None, has_picture: bool = False) -> str:
    """The README.md that `push_to_hub` uploads: what the Hub reads, and what people do.

    Args:
        classifier: what it is about.
        repo_id: `owner/name`.
        license: of the weights.
        has_picture: whether `class-maps.png` lies beside it.
    """
    metadata, p, names = without_places(classifier.metadata), classifier.preprocessing, classifier.class_names
    gap = classifier.config.head == "gap"
    record = record_of_data(metadata)
    name, data = str(metadata.get("name") or "NiN"), str(record.get("name") or "")
    accuracy, dataset = number_in(metadata, "test_accuracy"), _DATASETS.get(known_as(record) or "")
    whose = data if dataset else _as_code(data) if data else "its data"
    quality, results = "", None
    if accuracy is not None:
        interval = metadata.get("test_accuracy_interval")
        spread = f" (95 % interval {interval[0]:.2%} to {interval[1]:.2%})" if interval else ""
        quality = f"## How good it is\n\n{accuracy:.2%} of the test pictures of {whose}{spread}.\n"
        results = [
            EvalResult(
                task_type="image-classification",
                dataset_type=dataset or (data or "pictures"),
                dataset_name=data or "pictures",
                dataset_split="test",
                metric_type="accuracy",
                metric_value=round(accuracy, 6),
            )
        ]
    described = ModelCardData(
        library_name="torchnin",
        pipeline_tag="image-classification",
        tags=["network-in-network", *["class-activation-map"] * gap],
        license=license,
        datasets=[dataset] if dataset else None,
        metrics=["accuracy"] if results else None,
        model_name=name if results else None,
        eval_results=results,
    )
    shown, listed = names[:50], "" if len(names) <= 50 else f" and {len(names) - 50} more"
    return _CARD.format(
        data=described.to_yaml(),
        title=repo_id.rpartition("/")[2],
        parameters=f"{classifier.summarize().num_parameters:,}",
        trained=f", `{name}`, trained on {whose}" if data else f", `{name}`",
        kind=_GAP if gap else _FC,
        explain='classifier.explain("picture.png").save("maps.png")      # the class maps over the picture\n' if gap else "",
        picture=f"\n![What it sees: class maps over a picture]({_PICTURE})\n" if has_picture else "",
        repo_id=repo_id,
        channels="grey" if p.channels == 1 else f"{p.channels} channels",
        width=p.width,
        height=p.height,
        num_classes=len(names),
        classes=", ".join(map(_as_code, shown)) + listed,
        quality=quality,
    )


def _as_code(text: str) -> str:
    """A name on the card, whatever is in it: in code nothing is taken for Markdown or HTML, and a comma is no end."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{' '.join(text.split())}{space}{fence}"


@contextlib.contextmanager
def _told(repo_id: str, revision: str | None, what: str) -> Iterator[None]:
    """What goes wrong with the Hub, in a sentence and in Python's own kinds of error."""
    place = f"{repo_id}{f' at {revision}' if revision else ''}"
    try:
        yield
    except RevisionNotFoundError as error:
        raise ValueError(f"{repo_id} has no revision {revision!r} on the Hub") from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"there is no {place} on the Hub, or it is not for you; check the name, and log in for a private one: hf auth login"
        ) from error
    except LocalTokenNotFoundError as error:
        raise PermissionError(f"{place} cannot be {what} without a token; log in: hf auth login, or give token=") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HTTPError) as error:
        # What is neither there nor in the cache is one error, whose cause is what the Hub answered, if it did.
        answer = next((each for each in (error, error.__cause__) if isinstance(each, HfHubHTTPError)), None)
        status = None if answer is None else answer.response.status_code
        if status in (401, 403):
            raise PermissionError(f"{place} cannot be {what} with this token ({status}); log in: hf auth login, or give token=") from error
        reached = "cannot be reached" if status is None else f"answers with {status}"
        before = ", and it was not downloaded before" if isinstance(error, LocalEntryNotFoundError) else ""
        said = str(answer or error).partition("\n")[0]
        raise ConnectionError(f"{place} cannot be {what}: the Hub {reached}{before} ({said})") from error
