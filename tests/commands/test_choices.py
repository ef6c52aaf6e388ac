from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("flag", "given", "accepted"),
    [
        ("--dtype", "bf", "('auto', 'float32', 'bfloat16')"),
        ("--head", "None", "('gap', 'fc')"),
        ("--mlp-layers", "7", "('0', '1', '2', '3')"),
    ],
)
def test_a_wrong_word_is_answered_with_those_accepted_in_their_order(flag: str, given: str, accepted: str, nin: Callable[..., Any]) -> None:
    answer = nin("train", flag, given)
    assert answer.code == 2
    assert f"Expected one of {accepted}" in " ".join(answer.err.replace("│", " ").split())


def test_a_number_among_words_is_a_number(nin: Callable[..., Any]) -> None:
    assert "1x1" not in nin("summary", "nin_small", "--mlp-layers", "0").out
