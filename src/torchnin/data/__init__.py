"""Pixels in, batches out: datasets, pictures, and what is done to them."""

from torchnin.data.catalog import CATALOG as CATALOG
from torchnin.data.catalog import DatasetStatus as DatasetStatus
from torchnin.data.catalog import cache_folder as cache_folder
from torchnin.data.catalog import find_datasets as find_datasets
from torchnin.data.dataset import DatasetSplits as DatasetSplits
from torchnin.data.dataset import ImageDataset as ImageDataset
from torchnin.data.errors import DataError as DataError
from torchnin.data.load import load_dataset as load_dataset
from torchnin.data.pictures import convert_channels as convert_channels
from torchnin.data.pictures import decode_picture as decode_picture
from torchnin.data.pictures import resize_pixels as resize_pixels
