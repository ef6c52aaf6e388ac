"""Pictures that are there twice, where that misleads."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from os import PathLike

import numpy as np

from torchnin.data.dataset import ImageDataset
from torchnin.data.mapped import mapped_file
from torchnin.values import counted


def copies(datasets: Mapping[str, ImageDataset], paths: Mapping[str, Sequence[PathLike[str]]] | None = None) -> tuple[str, ...]:
    """What is to be said of pictures that are the same to the pixel: among train and what it is judged by, or in two classes.

    Pictures of files that are mapped into memory are not looked at: there may be more of them than memory.

    Args:
        datasets: "train", and those that it is judged by, of the same classes.
        paths: each picture's file, by dataset; without them pictures are told by their dataset and their place in it, from 0.
    """
    if any(mapped_file(dataset.images) for dataset in datasets.values()):
        return ()
    first: dict[int, tuple[str, int, int]] = {}
    learned: dict[str, list[str]] = defaultdict(list)
    in_two_classes = []

    def told(split: str, place: int) -> str:
        return f"{split} picture {place:,}" if paths is None else str(paths[split][place])

    for split in sorted(datasets, key=lambda split: split != "train"):
        dataset = datasets[split]
        for place, (image, label) in enumerate(zip(np.asarray(dataset.images), dataset.labels.tolist(), strict=True)):
            found_in, other, other_label = first.setdefault(hash(image.tobytes()), (split, place, label))
            if (found_in, other) == (split, place):
                continue
            this, that = told(split, place), told(found_in, other)
            if other_label != label:
                in_two_classes.append(f"{this} ({dataset.class_names[label]}) and {that} ({dataset.class_names[other_label]})")
            elif found_in == "train" != split:
                learned[split].append(f"{this} and {that}")
    sentences = [
        f"{len(pairs):,} of {len(datasets[split]):,} {split} pictures are the same, to the pixel, as train pictures, first "
        f"{pairs[0]}: the accuracy on them says little of new pictures. Remove one of each two."
        for split, pairs in learned.items()
    ]
    if in_two_classes:
        sentences.append(
            f"In two classes, the same to the pixel: {counted(len(in_two_classes), 'picture')}, first {in_two_classes[0]}. "
            "Remove those that are wrong."
        )
    return tuple(sentences)
