"""Pixels in, batches out: datasets, pictures, and what is done to them.

Names are resolved on first use: decoding pictures needs no torch, and an exported classifier runs without it.
"""

from typing import TYPE_CHECKING

from torchnin.names import on_first_use

if TYPE_CHECKING:
    from torchnin.data.augmentation import Augmentation as Augmentation
    from torchnin.data.batches import Batch as Batch
    from torchnin.data.batches import Batches as Batches
    from torchnin.data.batches import derived_seed as derived_seed
    from torchnin.data.catalog import CATALOG as CATALOG
    from torchnin.data.dataset import DatasetSplits as DatasetSplits
    from torchnin.data.dataset import ImageDataset as ImageDataset
    from torchnin.data.dataset import held_out_sentence as held_out_sentence
    from torchnin.data.errors import DataError as DataError
    from torchnin.data.load import load_dataset as load_dataset
    from torchnin.data.locate import DatasetStatus as DatasetStatus
    from torchnin.data.locate import find_datasets as find_datasets
    from torchnin.data.paths import each_picture_below as each_picture_below
    from torchnin.data.paths import natural_key as natural_key
    from torchnin.data.paths import others_sentence as others_sentence
    from torchnin.data.paths import pictures_below as pictures_below
    from torchnin.data.pictures import SUFFIXES as SUFFIXES
    from torchnin.data.pictures import convert_channels as convert_channels
    from torchnin.data.pictures import decode_picture as decode_picture
    from torchnin.data.preprocessing import Preprocessing as Preprocessing
    from torchnin.data.resize import resize_pixels as resize_pixels

_HOME = {
    "torchnin.data.augmentation": ("Augmentation",),
    "torchnin.data.batches": ("Batch", "Batches", "derived_seed"),
    "torchnin.data.catalog": ("CATALOG",),
    "torchnin.data.dataset": ("DatasetSplits", "ImageDataset", "held_out_sentence"),
    "torchnin.data.errors": ("DataError",),
    "torchnin.data.load": ("load_dataset",),
    "torchnin.data.locate": ("DatasetStatus", "find_datasets"),
    "torchnin.data.paths": ("each_picture_below", "natural_key", "others_sentence", "pictures_below"),
    "torchnin.data.pictures": ("SUFFIXES", "convert_channels", "decode_picture"),
    "torchnin.data.preprocessing": ("Preprocessing",),
    "torchnin.data.resize": ("resize_pixels",),
}

__all__ = sorted(name for names in _HOME.values() for name in names)

__getattr__, __dir__ = on_first_use(__name__, _HOME)
