"""Factorizations as loops of plain operations, which an emulated arithmetic can see into.

JAX's own call a library whose roundings are hidden. These are the textbook algorithms: each docstring names the one
that it follows (Golub & Van Loan, Matrix Computations, 4th edition) and the theorem that bounds its error (Higham,
Accuracy and Stability of Numerical Algorithms, 2nd edition), with u the unit roundoff of the arithmetic that runs it.
Breakdown is not guarded: it shows as NaN or infinity in the result. A batch is a `jax.vmap` of the function for one
matrix.
"""

from precond_lab.linalg.eigenvalues import Eigenpair, Eigenpairs, eigh, power_iteration
from precond_lab.linalg.elimination import LU, lu, solve
from precond_lab.linalg.orthogonal import Reflectors, apply_reflectors, householder, qr
from precond_lab.linalg.singular_values import SVD, svd
from precond_lab.linalg.symmetric import LDL, cholesky, ldl, solve_spd
from precond_lab.linalg.triangular import invert_lower, solve_triangular, tridiagonal_solve

__all__ = [
    "LDL",
    "LU",
    "SVD",
    "Eigenpair",
    "Eigenpairs",
    "Reflectors",
    "apply_reflectors",
    "cholesky",
    "eigh",
    "householder",
    "invert_lower",
    "ldl",
    "lu",
    "power_iteration",
    "qr",
    "solve",
    "solve_spd",
    "solve_triangular",
    "svd",
    "tridiagonal_solve",
]
