"""Every picture that the project draws, from plain arrays; needs matplotlib: `pip install "torchnin[plot]"`.

Each function takes arrays and a path and writes one file (.png, .pdf, .svg, .jpg), whole or not at all. Words are English
(`language="en"`) or Chinese (`"zh"`). Figures are made without pyplot, so that no state is shared and any thread may draw.
"""

from .maps import class_maps_over_picture, feature_maps, pixel_mlp
from .quality import confusion_matrix, mistakes, picture_sheet, reliability_diagram
from .runs import accuracy_histogram, training_curves
from .style import SUFFIXES, Language, require_drawable

__all__ = [
    "SUFFIXES",
    "Language",
    "accuracy_histogram",
    "class_maps_over_picture",
    "confusion_matrix",
    "feature_maps",
    "mistakes",
    "picture_sheet",
    "pixel_mlp",
    "reliability_diagram",
    "require_drawable",
    "training_curves",
]
