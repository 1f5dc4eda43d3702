"""The programs under study: plain jax.numpy, free of formats."""

import importlib
from types import ModuleType

_MODULES = ("inverse_root", "kronecker", "logdet", "rank_one")


def __getattr__(name: str) -> ModuleType:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
