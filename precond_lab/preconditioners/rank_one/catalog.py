"""Every form of the recursion by name."""

from collections.abc import Mapping
from types import MappingProxyType

from precond_lab.preconditioners.rank_one import dense
from precond_lab.preconditioners.rank_one.recursion import Recursion

METHODS: Mapping[str, Recursion] = MappingProxyType({
    "gain": dense.recursion_of(dense.gain),
    "outer": dense.recursion_of(dense.outer),
    "symmetric": dense.recursion_of(dense.symmetric),
    "both_sided": dense.recursion_of(dense.both_sided),
    "joseph": dense.recursion_of(dense.joseph),
})
"""Forms that equal the exact recursion in exact arithmetic."""
