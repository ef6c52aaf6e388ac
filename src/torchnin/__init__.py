"""torchnin: Network in Network for PyTorch.

Names are resolved on first use, so that `import torchnin` costs nothing and `nin --help` imports no torch.
"""

from typing import TYPE_CHECKING

from torchnin.names import on_first_use
from torchnin.version import __version__

if TYPE_CHECKING:
    from torchnin.classifier import Classifier as Classifier
    from torchnin.classifier import load as load
    from torchnin.data import Augmentation as Augmentation
    from torchnin.data import DataError as DataError
    from torchnin.data import DatasetSplits as DatasetSplits
    from torchnin.data import ImageDataset as ImageDataset
    from torchnin.data import Preprocessing as Preprocessing
    from torchnin.data import find_datasets as find_datasets
    from torchnin.data import load_dataset as load_dataset
    from torchnin.device import choose_device as choose_device
    from torchnin.evaluation import Report as Report
    from torchnin.explanation import Explanation as Explanation
    from torchnin.export import Export as Export
    from torchnin.export import ExportError as ExportError
    from torchnin.exported import ExportedClassifier as ExportedClassifier
    from torchnin.models import BlockConfig as BlockConfig
    from torchnin.models import ClassBlockConfig as ClassBlockConfig
    from torchnin.models import NiN as NiN
    from torchnin.models import NiNBlock as NiNBlock
    from torchnin.models import NiNConfig as NiNConfig
    from torchnin.models import Summary as Summary
    from torchnin.models import create_model as create_model
    from torchnin.models import from_notebook as from_notebook
    from torchnin.models import list_models as list_models
    from torchnin.models import list_weights as list_weights
    from torchnin.models import model_entry as model_entry
    from torchnin.models import summarize as summarize
    from torchnin.models import to_notebook as to_notebook
    from torchnin.models import weights_entry as weights_entry
    from torchnin.prediction import Prediction as Prediction
    from torchnin.training import RECIPES as RECIPES
    from torchnin.training import CollapseError as CollapseError
    from torchnin.training import DivergenceError as DivergenceError
    from torchnin.training import Interrupted as Interrupted
    from torchnin.training import LostProcessError as LostProcessError
    from torchnin.training import OutOfMemoryError as OutOfMemoryError
    from torchnin.training import Recipe as Recipe
    from torchnin.training import Run as Run
    from torchnin.training import TrainingError as TrainingError
    from torchnin.training import named_recipe as named_recipe
    from torchnin.training import recipe_for as recipe_for
    from torchnin.training import resume as resume
    from torchnin.training import train as train
    from torchnin.training import train_seeds as train_seeds

_HOME = {
    "torchnin.classifier": ("Classifier", "load"),
    "torchnin.data": ("Augmentation", "DataError", "DatasetSplits", "ImageDataset", "Preprocessing", "find_datasets", "load_dataset"),
    "torchnin.device": ("choose_device",),
    "torchnin.evaluation": ("Report",),
    "torchnin.explanation": ("Explanation",),
    "torchnin.export": ("Export", "ExportError"),
    "torchnin.exported": ("ExportedClassifier",),
    "torchnin.models": (
        *("BlockConfig", "ClassBlockConfig", "NiN", "NiNBlock", "NiNConfig", "Summary", "create_model"),
        *("from_notebook", "list_models", "list_weights", "model_entry", "summarize", "to_notebook", "weights_entry"),
    ),
    "torchnin.prediction": ("Prediction",),
    "torchnin.training": (
        *(
            "RECIPES",
            "CollapseError",
            "DivergenceError",
            "Interrupted",
            "LostProcessError",
            "OutOfMemoryError",
            "Recipe",
            "Run",
            "TrainingError",
        ),
        *("named_recipe", "recipe_for", "resume", "train", "train_seeds"),
    ),
}
_ROOMS = ("data", "integrations", "models", "plots", "saved", "training", "web")

__all__ = ["__version__", *sorted(name for names in _HOME.values() for name in names)]


__getattr__, __dir__ = on_first_use(__name__, _HOME, _ROOMS)
