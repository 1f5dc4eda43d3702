"""Second-order optimizers as optax gradient transformations, in any arithmetic."""

from precond_lab.optimizers.eva import eva, scale_by_eva
from precond_lab.optimizers.kfac import kfac, scale_by_kfac
from precond_lab.optimizers.layers import LayersState, Rows
from precond_lab.optimizers.sonew import SonewState, scale_by_sonew, sonew

__all__ = [
    "LayersState",
    "Rows",
    "SonewState",
    "eva",
    "kfac",
    "scale_by_eva",
    "scale_by_kfac",
    "scale_by_sonew",
    "sonew",
]
