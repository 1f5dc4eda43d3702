"""Data sets, networks, and gradient streams of real training.

The rooms inside are `idx` (images from IDX files), `curves` (the built-in synthetic images), `autoencoder`
(the network and its loss), `stream` (the gradients of its training, step by step) and `layers` (what each layer
sees and sends back). Names resolve on first use, so that importing this package loads neither JAX nor NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from precond_lab.training import autoencoder, curves, idx, layers, stream
    from precond_lab.training.autoencoder import WIDTHS, Layer
    from precond_lab.training.idx import ImageFileError, Images, load_images
    from precond_lab.training.layers import STREAMS, layer_stream
    from precond_lab.training.stream import Step, gradient_stream

__all__ = [
    "STREAMS",
    "WIDTHS",
    "ImageFileError",
    "Images",
    "Layer",
    "Step",
    "autoencoder",
    "curves",
    "gradient_stream",
    "idx",
    "layer_stream",
    "layers",
    "load_images",
    "stream",
]

_MODULES = ("autoencoder", "curves", "idx", "layers", "stream")
_HOME = {
    "STREAMS": "layers",
    "WIDTHS": "autoencoder",
    "Layer": "autoencoder",
    "ImageFileError": "idx",
    "Images": "idx",
    "layer_stream": "layers",
    "load_images": "idx",
    "Step": "stream",
    "gradient_stream": "stream",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
