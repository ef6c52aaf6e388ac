"""Memory that is short where smaller pieces do not help is said in words."""

import pytest
import torch

from torchnin.training import OutOfMemoryError
from torchnin.training.memory import named_when_short


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore about it"),
            "CUDA out of memory. Tried 2 GiB",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "DefaultCPUAllocator: can't allocate memory"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_it_is_told_with_what_to_do_next(error: Exception, said: str) -> None:
    with pytest.raises(OutOfMemoryError) as told, named_when_short():
        raise error
    assert str(told.value).startswith(f"out of memory ({said}); what was learned up to the last checkpoint, if there is one, is saved")
    assert str(told.value).endswith("go on with --resume where more memory is free")
    assert told.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), OutOfMemoryError("out of memory at step 3"), ValueError("no")])
def test_other_errors_and_those_that_have_their_words_pass_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as told, named_when_short():
        raise error
    assert told.value is error
