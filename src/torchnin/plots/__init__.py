"""Every picture that the project draws, from plain arrays; needs matplotlib: `pip install "torchnin[plot]"`.

Each function takes arrays and a path and writes one file (.png, .pdf, .svg, .jpg), whole or not at all. Words are English
(`language="en"`) or Chinese (`"zh"`). Figures are made without pyplot, so that no state is shared and any thread may draw.
"""

from .collapse import accuracies_beside, changes_over_steps, class_map_lives, price_of_dead_maps, signal_at_the_start
from .maps import class_maps_over_picture, drawn_size, feature_maps, pixel_mlp
from .quality import confusion_matrix, mistakes, picture_sheet, reliability_diagram
from .runs import training_curves
from .speed import training_speeds
from .style import SUFFIXES, Language, require_drawable

__all__ = [
    "SUFFIXES",
    "Language",
    "accuracies_beside",
    "changes_over_steps",
    "class_map_lives",
    "class_maps_over_picture",
    "confusion_matrix",
    "drawn_size",
    "feature_maps",
    "mistakes",
    "picture_sheet",
    "pixel_mlp",
    "price_of_dead_maps",
    "reliability_diagram",
    "require_drawable",
    "signal_at_the_start",
    "training_curves",
    "training_speeds",
]
