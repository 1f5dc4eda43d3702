"""The inverse root A^{-1/p} in many digits: a candidate with its proof."""

from precond_lab.truth.inverse_root.reference import CertifiedRoot, Status, inverse_root

__all__ = ["CertifiedRoot", "Status", "inverse_root"]
