"""What torchnin is inside other libraries: `timm`, `sklearn`, `hub`, each a module that is imported by its name and needs its library."""

from torchnin.names import on_first_use

__getattr__, __dir__ = on_first_use(__name__, {}, ("hub", "sklearn", "timm"))
