import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from torchnin.data import DataError
from torchnin.data.ahead import decode_ahead


def numbered(picture: object) -> Tensor:
    return torch.tensor(int(str(picture)))


@pytest.mark.parametrize("count", [0, 1, 2, 8, 9, 100])
def test_every_picture_comes_in_order(count: int) -> None:
    found = list(decode_ahead((str(number) for number in range(count)), numbered, ahead=16))
    assert [int(item) for item in found if isinstance(item, Tensor)] == list(range(count))


def test_a_broken_picture_stands_in_its_place_and_the_others_go_on() -> None:
    def sometimes(picture: object) -> Tensor:
        if picture == "7":
            raise DataError("7: broken")
        return numbered(picture)

    found = list(decode_ahead(map(str, range(40)), sometimes, ahead=16))
    assert [type(item) for item in found] == [DataError if number == 7 else Tensor for number in range(40)]


def test_a_wrong_call_is_raised_and_no_thread_is_left() -> None:
    def never(picture: object) -> Tensor:
        raise ValueError("no picture at all")

    before = threading.active_count()
    with pytest.raises(ValueError, match="no picture at all"):
        list(decode_ahead(map(str, range(40)), never, ahead=16))
    assert threading.active_count() == before


def test_no_more_is_taken_than_asked_for() -> None:
    taken = 0

    def source() -> Iterator[str]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield str(number)

    before = threading.active_count()
    found = decode_ahead(source(), numbered, ahead=32)
    for number in range(1, 101):
        next(found)
        assert taken <= number + 32 + 8
    found.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(("count", "here"), [(1, True), (8, True), (9, False), (40, False)])
def test_threads_are_started_for_more_than_one_would_take_at_a_time(count: int, here: bool) -> None:
    seen = set()

    def noted(picture: object) -> Tensor:
        seen.add(threading.current_thread())
        return numbered(picture)

    assert len(list(decode_ahead(map(str, range(count)), noted, ahead=64))) == count
    assert (seen == {threading.current_thread()}) is here
