import json
from collections.abc import Callable
from typing import Any

import torchnin


def test_models(nin: Callable[..., Any]) -> None:
    rows = json.loads(nin("models", "--json").out)
    assert {row["name"]: row["num_parameters"] for row in rows}["nin_d2l"] == 1_992_166
    assert [row["name"] for row in rows] == list(torchnin.list_models())
    text = nin("models").out
    assert "1,992,166" in text
    assert "762,297,352" in text
