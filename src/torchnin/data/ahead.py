"""Pictures decoded ahead of the network that waits for them: on a few threads, in order, a bounded number at a time."""

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import TypeVar

from torchnin.data.errors import DataError
from torchnin.data.pictures import PictureSource, quiet_pillow

# Pictures that a thread takes at a time: handing over one small picture costs more than decoding it.
_CHUNK = 8
_Decoded = TypeVar("_Decoded")


def decode_ahead(
    pictures: Iterable[PictureSource], decode: Callable[[PictureSource], _Decoded], *, ahead: int
) -> Iterator[_Decoded | DataError]:
    """Decode pictures on a few threads while the caller works on those that came before.

    Args:
        pictures: any number of them; taken from the iterable in the caller's thread, up to `ahead` before they are wanted.
        decode: from a picture to its pixels, or to what else is made of it; runs on several threads at once.
        ahead: pictures that are decoded and not yet wanted, at most (rounded up to whole chunks of 8). Bounds the memory.

    Returns:
        Of each picture in order what `decode` made of it, or the DataError that `decode` raised. Any other error of `decode` or of the
        iterable is raised as soon as it is met, which may be before the pictures that were decoded ahead of it.
    """

    def work(chunk: Sequence[PictureSource]) -> list[_Decoded | DataError]:
        # Pillow never sees an array, and making it quiet takes longer than decoding one.
        with contextlib.nullcontext() if all(map(_is_array, chunk)) else quiet_pillow():
            return [_attempt(decode, picture) for picture in chunk]

    source = iter(pictures)
    chunks = iter(lambda: list(islice(source, _CHUNK)), [])
    first, second = next(chunks, []), next(chunks, [])
    if not second:  # what one thread would decode needs none started
        yield from work(first)
        return
    chunks = chain([first, second], chunks)
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="decode")
    waiting: deque[Callable[[], list[_Decoded | DataError]]] = deque()
    try:
        while True:
            for chunk in islice(chunks, max(1, -(-ahead // _CHUNK)) - len(waiting)):
                # Arrays are decoded already; what is left to do takes less than handing them over.
                waiting.append(partial(work, chunk) if all(map(_is_array, chunk)) else pool.submit(work, chunk).result)
            if not waiting:
                return
            yield from waiting.popleft()()
    finally:
        pool.shutdown(cancel_futures=True)  # when the caller goes away early, nothing more is decoded


def _is_array(picture: PictureSource) -> bool:
    return hasattr(picture, "ndim")


def _attempt(decode: Callable[[PictureSource], _Decoded], picture: PictureSource) -> _Decoded | DataError:
    try:
        return decode(picture)
    except DataError as error:
        return error
