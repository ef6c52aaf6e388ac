"""CLASSIFIER on the command line: a path, the name of weights that ship, or a place on the Hugging Face Hub."""

from typing import TYPE_CHECKING, Any

import torchnin

if TYPE_CHECKING:
    from torchnin import Classifier

_HUB = "hf-hub:"


def on_the_hub(source: str) -> bool:
    """Whether this names a place on the Hugging Face Hub."""
    return source.startswith(_HUB)


def load_classifier(source: str, **given: Any) -> "Classifier":
    """`torchnin.load`, and of `hf-hub:OWNER/NAME` or `hf-hub:OWNER/NAME@REVISION` what lies on the Hub; the rest as for `load`."""
    if not on_the_hub(source):
        return torchnin.load(source, **given)
    repo_id, _, revision = source.removeprefix(_HUB).partition("@")
    loaded: Classifier = torchnin.integrations.hub.load_from_hub(repo_id, revision=revision or None, **given)
    return loaded
