"""The study of many seeds is recorded piece by piece: what was found elsewhere or earlier stays beside what is found now."""

import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "every_seed"
sys.path.insert(0, str(FOLDER))
import cure  # noqa: E402
import results  # noqa: E402

del sys.path[0]


def study(variant: str, accuracies: dict[int, float], **other: Any) -> dict[str, Any]:
    """What `cure.py` writes into summary.json."""
    runs = [
        {"seed": seed, "accuracy": accuracy, "dead_class_maps": 0, "failure": None if accuracy >= 0.85 else f"accuracy {accuracy}"}
        for seed, accuracy in accuracies.items()
    ]
    document = {"model": "nin_d2l", "image_size": 224, "torch": "2", "date": "2026-01-02", "device": {"dtype": "bfloat16"}}
    return {**document, **other, "variants": {variant: cure.table(runs)}}


def test_seeds_of_several_calls_come_together() -> None:
    first = results.joined_cure({}, study("steady", {0: 0.94, 1: 0.92}, date="2026-01-01"))
    assert first["variants"]["steady"]["date"] == "2026-01-01"
    both = results.joined_cure(first, study("steady", {1: 0.93, 4: 0.8}))["variants"]["steady"]
    assert [(run["seed"], run["accuracy"]) for run in both["runs"]] == [(0, 0.94), (1, 0.93), (4, 0.8)]
    assert [both[key] for key in ("seeds", "failures", "median", "lowest", "highest")] == [3, 1, 0.93, 0.8, 0.94]
    assert (both["date"], both["dtype"]) == ("2026-01-02", "bfloat16")


def test_other_variants_stay_as_they_were() -> None:
    first = results.joined_cure({}, study("steady", {0: 0.94}, date="2026-01-01"))
    found = results.joined_cure(first, study("without clipping", {0: 0.9}, device={"dtype": "float32"}))["variants"]
    assert found["steady"] == first["variants"]["steady"]
    assert found["without clipping"]["dtype"] == "float32"


def test_what_is_not_of_one_study_is_refused() -> None:
    first = results.joined_cure({}, study("steady", {0: 0.94}))
    with pytest.raises(ValueError, match="image_size was 224 in what is recorded and is 112 now"):
        results.joined_cure(first, study("steady", {1: 0.9}, image_size=112))
    with pytest.raises(ValueError, match="steady was computed in bfloat16 in what is recorded and is in float32 now"):
        results.joined_cure(first, study("steady", {1: 0.9}, device={"dtype": "float32"}))
