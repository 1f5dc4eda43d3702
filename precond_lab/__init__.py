"""precond_lab: will this preconditioner survive low precision, where does it break, and what cures it?

The names of the front door are resolved when they are first used, so that importing the package is instant and imports
no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precond_lab import diagnosis, gallery, linalg, optimizers, preconditioners, training, truth
    from precond_lab.arithmetic import formats
    from precond_lab.arithmetic.blocks import MX, NVFP4, CodeBook, Integer
    from precond_lab.arithmetic.emulate import emulate
    from precond_lab.arithmetic.events import Events
    from precond_lab.arithmetic.formats import Format
    from precond_lab.arithmetic.matrix_units import MatrixUnit
    from precond_lab.arithmetic.quantization import dequantize, quantize, round_blocks
    from precond_lab.arithmetic.regions import precision
    from precond_lab.arithmetic.rounding import round_to
    from precond_lab.arithmetic.specification import Arithmetic
    from precond_lab.arithmetic.storage import stored
    from precond_lab.diagnosis.condition import condition_number
    from precond_lab.diagnosis.diagnose import diagnose
    from precond_lab.diagnosis.verdict import Verdict
    from precond_lab.truth.evaluate import evaluate

__version__ = "0.1.0"

# Where each name of the front door lives: a module, or a module and an attribute of it.
_DOOR = {
    "Arithmetic": ("precond_lab.arithmetic.specification", "Arithmetic"),
    "CodeBook": ("precond_lab.arithmetic.blocks", "CodeBook"),
    "Events": ("precond_lab.arithmetic.events", "Events"),
    "Format": ("precond_lab.arithmetic.formats", "Format"),
    "Integer": ("precond_lab.arithmetic.blocks", "Integer"),
    "MX": ("precond_lab.arithmetic.blocks", "MX"),
    "MatrixUnit": ("precond_lab.arithmetic.matrix_units", "MatrixUnit"),
    "NVFP4": ("precond_lab.arithmetic.blocks", "NVFP4"),
    "Verdict": ("precond_lab.diagnosis.verdict", "Verdict"),
    "condition_number": ("precond_lab.diagnosis.condition", "condition_number"),
    "dequantize": ("precond_lab.arithmetic.quantization", "dequantize"),
    "diagnose": ("precond_lab.diagnosis.diagnose", "diagnose"),
    "diagnosis": ("precond_lab.diagnosis", None),
    "emulate": ("precond_lab.arithmetic.emulate", "emulate"),
    "evaluate": ("precond_lab.truth.evaluate", "evaluate"),
    "formats": ("precond_lab.arithmetic.formats", None),
    "gallery": ("precond_lab.gallery", None),
    "linalg": ("precond_lab.linalg", None),
    "optimizers": ("precond_lab.optimizers", None),
    "precision": ("precond_lab.arithmetic.regions", "precision"),
    "preconditioners": ("precond_lab.preconditioners", None),
    "quantize": ("precond_lab.arithmetic.quantization", "quantize"),
    "round_blocks": ("precond_lab.arithmetic.quantization", "round_blocks"),
    "round_to": ("precond_lab.arithmetic.rounding", "round_to"),
    "stored": ("precond_lab.arithmetic.storage", "stored"),
    "training": ("precond_lab.training", None),
    "truth": ("precond_lab.truth", None),
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "MX",
    "NVFP4",
    "Arithmetic",
    "CodeBook",
    "Events",
    "Format",
    "Integer",
    "MatrixUnit",
    "Verdict",
    "condition_number",
    "dequantize",
    "diagnose",
    "diagnosis",
    "emulate",
    "evaluate",
    "formats",
    "gallery",
    "linalg",
    "optimizers",
    "precision",
    "preconditioners",
    "quantize",
    "round_blocks",
    "round_to",
    "stored",
    "training",
    "truth",
]


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'precond_lab' has no attribute {name!r}")
    module, attribute = _DOOR[name]
    value = import_module(module) if attribute is None else getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_DOOR})
