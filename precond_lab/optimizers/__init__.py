"""Second-order optimizers as optax gradient transformations, in any arithmetic."""

from precond_lab.optimizers.sonew import SonewState, scale_by_sonew, sonew

__all__ = ["SonewState", "scale_by_sonew", "sonew"]
