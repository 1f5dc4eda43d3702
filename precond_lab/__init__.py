"""precond_lab: will this preconditioner survive low precision, where does it break, and what cures it?

The names of the front door are resolved when they are first used, so that importing the package is instant and imports
no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from precond_lab import diagnosis, gallery, linalg, optimizers, preconditioners, training, truth
    from precond_lab.arithmetic import formats
    from precond_lab.arithmetic.emulate import emulate
    from precond_lab.arithmetic.events import Events
    from precond_lab.arithmetic.formats import Format
    from precond_lab.arithmetic.rounding import round_to
    from precond_lab.arithmetic.specification import Arithmetic
    from precond_lab.diagnosis.condition import condition_number
    from precond_lab.diagnosis.diagnose import diagnose
    from precond_lab.diagnosis.verdict import Verdict
    from precond_lab.truth.evaluate import evaluate

__version__ = "0.1.0"

# Where each name of the front door lives: a module, or a module and an attribute of it.
_DOOR = {
    "Arithmetic": ("precond_lab.arithmetic.specification", "Arithmetic"),
    "Events": ("precond_lab.arithmetic.events", "Events"),
    "Format": ("precond_lab.arithmetic.formats", "Format"),
    "Verdict": ("precond_lab.diagnosis.verdict", "Verdict"),
    "condition_number": ("precond_lab.diagnosis.condition", "condition_number"),
    "diagnose": ("precond_lab.diagnosis.diagnose", "diagnose"),
    "diagnosis": ("precond_lab.diagnosis", None),
    "emulate": ("precond_lab.arithmetic.emulate", "emulate"),
    "evaluate": ("precond_lab.truth.evaluate", "evaluate"),
    "formats": ("precond_lab.arithmetic.formats", None),
    "gallery": ("precond_lab.gallery", None),
    "linalg": ("precond_lab.linalg", None),
    "optimizers": ("precond_lab.optimizers", None),
    "preconditioners": ("precond_lab.preconditioners", None),
    "round_to": ("precond_lab.arithmetic.rounding", "round_to"),
    "training": ("precond_lab.training", None),
    "truth": ("precond_lab.truth", None),
}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "Arithmetic",
    "Events",
    "Format",
    "Verdict",
    "condition_number",
    "diagnose",
    "diagnosis",
    "emulate",
    "evaluate",
    "formats",
    "gallery",
    "linalg",
    "optimizers",
    "preconditioners",
    "round_to",
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
