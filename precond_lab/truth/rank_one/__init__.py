"""Updates of rank one by their definitions: what they accumulate, its inverse, and how textbooks carry it.

`rank_one_inverse` is the target, in digits that are proved. `recurred` runs a textbook's recursion over exact scalars.
`closed_forms` has Eva, K-FAC and their kin as dense systems; `factorizations` the factors of a matrix.
"""

from precond_lab.truth.rank_one import closed_forms, factorizations
from precond_lab.truth.rank_one.accumulation import accumulated
from precond_lab.truth.rank_one.recursions import RECURSIONS, Definition, recurred
from precond_lab.truth.rank_one.reference import CertifiedInverse, Status, rank_one_inverse, rank_one_inverses

__all__ = [
    "RECURSIONS",
    "CertifiedInverse",
    "Definition",
    "Status",
    "accumulated",
    "closed_forms",
    "factorizations",
    "rank_one_inverse",
    "rank_one_inverses",
    "recurred",
]
