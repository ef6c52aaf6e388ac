import json
from collections.abc import Callable
from typing import Any

from torchnin import Run


def test_summary(nin: Callable[..., Any], trained: Run) -> None:
    document = json.loads(nin("summary", "nin_d2l", "--json").out)
    assert json.dumps(document).count("762297352") >= 1
    assert nin("summary", trained.path).code == 0
    for arguments, said in (
        (("nin_d2",), "did you mean nin_d2l"),
        (("nin_d2l", "--input", "1x20x20"), "the smallest is"),
        (("nin_d2l:head=fc", "--input", "1x96x96"), "--input 1x96x96: this network's fully connected head takes class maps of 5x5"),
        (("nin_d2l", "--input", "3x224x224"), "3 channels; nin_d2l takes 1 (change it with --in-channels)"),
        (("nin_d2l", "--input", "big"), "'big' is no picture shape"),
        (("nin_d2l", "--dropout", "2"), "dropout is 2.0"),
        ((trained.path, "--dropout", "0.1"), "is a trained network; leave out --dropout"),
        ((trained.path, "--input", "3x28x28"), f"has 3 channels; {trained.path} takes 1\n"),  # no flag changes it
    ):
        answer = nin("summary", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err
