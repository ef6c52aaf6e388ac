"""From a network and its preprocessing to a checked .onnx file; needs the extra: `pip install 'torchnin[onnx]'`.

The whole classifier is in the graph: pictures of any size go in as they are decoded, so there is no preprocessing to get wrong
elsewhere. `torchnin.ExportedClassifier` runs such a file without torch.
"""

from typing import TYPE_CHECKING

from torchnin.names import on_first_use

if TYPE_CHECKING:
    from torchnin.export.check import MOST_PICTURES as MOST_PICTURES
    from torchnin.export.check import TOLERANCE as TOLERANCE
    from torchnin.export.check import Check as Check
    from torchnin.export.check import ExportError as ExportError
    from torchnin.export.check import Pictures as Pictures
    from torchnin.export.graph import require_exporter as require_exporter
    from torchnin.export.int8 import ACCEPTED_LOSS as ACCEPTED_LOSS
    from torchnin.export.int8 import Int8 as Int8
    from torchnin.export.write import Export as Export
    from torchnin.export.write import export_onnx as export_onnx
    from torchnin.export.write import require_writable as require_writable

_HOME = {
    "torchnin.export.check": ("MOST_PICTURES", "TOLERANCE", "Check", "ExportError", "Pictures"),
    "torchnin.export.graph": ("require_exporter",),
    "torchnin.export.int8": ("ACCEPTED_LOSS", "Int8"),
    "torchnin.export.write": ("Export", "export_onnx", "require_writable"),
}

__all__ = sorted(name for names in _HOME.values() for name in names)

__getattr__, __dir__ = on_first_use(__name__, _HOME)
