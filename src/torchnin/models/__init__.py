"""What a NiN is: plain torch.nn, no training, no data. This folder can be copied out and used alone."""

from .block import NiNBlock
from .config import BlockConfig, ClassBlockConfig, NiNConfig
from .folded import FoldedConvolution, FoldedNiN
from .nin import NiN
from .notebook import from_notebook, to_notebook
from .shipped import WeightsEntry, list_weights, weights_entry
from .shortcuts import layer_by_layer
from .summary import LayerRow, Summary, summarize
from .zoo import ModelEntry, create_model, list_models, model_entry

__all__ = [
    "BlockConfig",
    "ClassBlockConfig",
    "FoldedConvolution",
    "FoldedNiN",
    "LayerRow",
    "ModelEntry",
    "NiN",
    "NiNBlock",
    "NiNConfig",
    "Summary",
    "WeightsEntry",
    "create_model",
    "from_notebook",
    "layer_by_layer",
    "list_models",
    "list_weights",
    "model_entry",
    "summarize",
    "to_notebook",
    "weights_entry",
]
