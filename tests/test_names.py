import subprocess
import sys

import pytest

import torchnin
import torchnin.data


@pytest.mark.parametrize("package", [torchnin, torchnin.data])
def test_every_public_name_is_found_and_listed(package: object) -> None:
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None


def test_an_unknown_name_is_said_to_be_missing() -> None:
    with pytest.raises(AttributeError, match=r"module 'torchnin.data' has no attribute 'Datset'"):
        _ = torchnin.data.Datset


def test_pictures_are_found_and_decoded_without_torch() -> None:
    code = (
        "import sys, numpy, torchnin; from torchnin.data import decode_picture, each_picture_below\n"
        "assert decode_picture(numpy.zeros((2, 3), dtype=numpy.uint8), 3).shape == (3, 2, 3)\n"
        "sys.exit('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
