"""Pixels in, batches out: datasets, pictures, and what is done to them."""

from torchnin.data.augmentation import Augmentation as Augmentation
from torchnin.data.batches import Batch as Batch
from torchnin.data.batches import Batches as Batches
from torchnin.data.batches import derived_seed as derived_seed
from torchnin.data.catalog import CATALOG as CATALOG
from torchnin.data.dataset import DatasetSplits as DatasetSplits
from torchnin.data.dataset import ImageDataset as ImageDataset
from torchnin.data.errors import DataError as DataError
from torchnin.data.load import load_dataset as load_dataset
from torchnin.data.locate import DatasetStatus as DatasetStatus
from torchnin.data.locate import cache_folder as cache_folder
from torchnin.data.locate import find_datasets as find_datasets
from torchnin.data.pictures import SUFFIXES as SUFFIXES
from torchnin.data.pictures import convert_channels as convert_channels
from torchnin.data.pictures import decode_picture as decode_picture
from torchnin.data.pictures import resize_pixels as resize_pixels
from torchnin.data.preprocessing import Preprocessing as Preprocessing
from torchnin.data.readers.folder import each_picture_below as each_picture_below
from torchnin.data.readers.folder import natural_key as natural_key
from torchnin.data.readers.folder import pictures_below as pictures_below
