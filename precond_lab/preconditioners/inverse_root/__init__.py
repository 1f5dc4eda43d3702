"""Inverse p-th roots of symmetric positive definite matrices: the methods of the literature, and what judges them.

`inverse_root` calls any of them by name; each is a function of its own as well. All take matrices of any scale, add a
ridge where one is asked for, leave out padding, and say what came of it by a residual that bounds the error, not by
their own convergence.
"""

from precond_lab.preconditioners.inverse_root.batches import Stack, roots_of_stack, stacked, unstacked
from precond_lab.preconditioners.inverse_root.catalog import METHODS, inverse_root
from precond_lab.preconditioners.inverse_root.certificate import certificate
from precond_lab.preconditioners.inverse_root.chebyshev import chebyshev
from precond_lab.preconditioners.inverse_root.foreign import foreign, optax_root
from precond_lab.preconditioners.inverse_root.gram import gram_newton_schulz
from precond_lab.preconditioners.inverse_root.higher_order import coupled_higher_order
from precond_lab.preconditioners.inverse_root.kernels import LIBRARY, LOOPS, Kernels
from precond_lab.preconditioners.inverse_root.newton import coupled_newton, newton
from precond_lab.preconditioners.inverse_root.newton_schulz import newton_schulz
from precond_lab.preconditioners.inverse_root.polynomial import minimax_polynomial
from precond_lab.preconditioners.inverse_root.rational import rational_minimax
from precond_lab.preconditioners.inverse_root.refined import refined
from precond_lab.preconditioners.inverse_root.results import InverseRoot, Result
from precond_lab.preconditioners.inverse_root.ridges import MEASURES, Ridge
from precond_lab.preconditioners.inverse_root.scalings import SCALINGS
from precond_lab.preconditioners.inverse_root.schur_newton import schur_newton
from precond_lab.preconditioners.inverse_root.solution import Setting
from precond_lab.preconditioners.inverse_root.spectral import POLICIES, eigen, svd
from precond_lab.preconditioners.inverse_root.split import split_product
from precond_lab.preconditioners.inverse_root.tracking import TrackedRoot, tracked, warm_started_newton

__all__ = [
    "LIBRARY",
    "LOOPS",
    "MEASURES",
    "METHODS",
    "POLICIES",
    "SCALINGS",
    "InverseRoot",
    "Kernels",
    "Result",
    "Ridge",
    "Setting",
    "Stack",
    "TrackedRoot",
    "certificate",
    "chebyshev",
    "coupled_higher_order",
    "coupled_newton",
    "eigen",
    "foreign",
    "gram_newton_schulz",
    "inverse_root",
    "minimax_polynomial",
    "newton",
    "newton_schulz",
    "optax_root",
    "rational_minimax",
    "refined",
    "roots_of_stack",
    "schur_newton",
    "split_product",
    "stacked",
    "svd",
    "tracked",
    "unstacked",
    "warm_started_newton",
]
