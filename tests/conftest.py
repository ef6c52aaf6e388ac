"""Shape annotations are checked while testing; real data is used where it is at hand."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Before the first import of the package. The modules that take tensors; the others answer wrong calls in their own words.
install_import_hook(
    ["torchnin.models.nin", "torchnin.data.preprocessing", "torchnin.data.augmentation", "torchnin.data.pictures"],
    "beartype.beartype",
)

SHARED = Path(__file__).parents[2] / "shared" / "data"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with CIFAR-10, MNIST and a folder of photos, which is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the development data is not at hand")
    return SHARED


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The full Fashion-MNIST, as the distribution's package dataset-fashion-mnist installs it."""
    if not FASHION_MNIST.is_dir():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    return FASHION_MNIST


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("TORCHNIN_HOME", str(tmp_path / "torchnin-home"))
