"""Test inputs by structure, condition, spectrum, and seed: matrices, and streams of vectors.

Everything is float64 NumPy, a function of its arguments alone: the same seed gives the same numbers.
"""

from precond_lab.gallery import streams
from precond_lab.gallery.matrices import (
    MATRICES,
    asymmetric,
    block_scales,
    chain,
    chain_by_condition,
    diagonal,
    graded,
    gram_chain,
    indefinite,
    near_singular_triples,
    rank_deficient,
    spd,
    toeplitz,
    wishart_average,
)
from precond_lab.gallery.spectra import SPECTRA
from precond_lab.gallery.streams import STREAMS, gradient_stream

__all__ = [
    "MATRICES",
    "SPECTRA",
    "STREAMS",
    "asymmetric",
    "block_scales",
    "chain",
    "chain_by_condition",
    "diagonal",
    "graded",
    "gradient_stream",
    "gram_chain",
    "indefinite",
    "near_singular_triples",
    "rank_deficient",
    "spd",
    "streams",
    "toeplitz",
    "wishart_average",
]
