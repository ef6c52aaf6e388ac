"""Makes the sample of Fashion-MNIST that lies beside this file: 600 training and 100 test pictures of each of the ten classes.

    python src/torchnin/data/sample/make_sample.py /usr/share/datasets/fashion-mnist

The training pictures come from the published training files and the test pictures from the published test files, so the sample's test
pictures are as unseen as the full set's. Seed 0 chooses; the chosen pictures keep the order and the bytes that they have in the full files.
"""

import gzip
import os
import sys
from pathlib import Path

import numpy as np

from torchnin.data.readers.idx import FILE_STEMS, encode_idx, read_idx

SEED = 0
PICTURES_PER_CLASS = {"train": 600, "test": 100}


def make_sample(full: Path, out: Path) -> None:
    """Write the four files of the sample into `out` from the four of the full set in `full`."""
    for split, stems in FILE_STEMS.items():
        images, labels = (read_idx(full / f"{stem}.gz", num_dimensions) for stem, num_dimensions in zip(stems, (3, 1), strict=True))
        rank = np.random.PCG64(SEED).random_raw(len(labels))
        chosen = np.sort(
            np.concatenate(
                [
                    members[np.argsort(rank[members], kind="stable")[: PICTURES_PER_CLASS[split]]]
                    for members in (np.flatnonzero(labels == label) for label in np.unique(labels))
                ]
            )
        )
        for stem, array in zip(stems, (images[chosen], labels[chosen]), strict=True):
            aside = out / f"{stem}.gz.tmp"
            # Without a time in the header the same pictures give the same file.
            aside.write_bytes(gzip.compress(encode_idx(array), compresslevel=9, mtime=0))
            os.replace(aside, out / f"{stem}.gz")


if __name__ == "__main__":
    make_sample(Path(sys.argv[1]), Path(__file__).parent)
