"""Every form of the recursion by name."""

import difflib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from precond_lab.preconditioners.rank_one import dense
from precond_lab.preconditioners.rank_one.factored import BIERMAN_UD, INFORMATION_CHOLESKY, LDL_UPDATE
from precond_lab.preconditioners.rank_one.kept import MASTER_COPY, SCALED, refreshed
from precond_lab.preconditioners.rank_one.recursion import Recursion
from precond_lab.preconditioners.rank_one.square_root import potter
from precond_lab.preconditioners.rank_one.woodbury import WOODBURY

METHODS: Mapping[str, Recursion] = MappingProxyType({
    "gain": dense.recursion_of(dense.gain),
    "outer": dense.recursion_of(dense.outer),
    "symmetric": dense.SYMMETRIC,
    "both_sided": dense.recursion_of(dense.both_sided),
    "joseph": dense.recursion_of(dense.joseph),
    "woodbury": WOODBURY,
    "potter": potter(),
    "bierman_ud": BIERMAN_UD,
    "ldl": LDL_UPDATE,
    "information_cholesky": INFORMATION_CHOLESKY,
    "refreshed": refreshed(),
    "master_copy": MASTER_COPY,
    "scaled": SCALED,
})
"""Forms that equal the exact recursion in exact arithmetic, with the settings that are their default.

A downdate, alpha < 0, is not for "information_cholesky", which gives NaN for it.
"""

SETTINGS: Mapping[str, Callable[..., Recursion]] = MappingProxyType({"potter": potter, "refreshed": refreshed})
"""The forms that have settings."""


def recursion(name: str, **settings: Any) -> Recursion:
    """A form by name, with settings of its own.

    Args:
        name: a name in `METHODS`.
        **settings: k of "refreshed", roots of "potter"; no other form has any.

    Returns:
        The recursion; the same object for the same settings.

    Raises:
        ValueError: for an unknown name, or a setting of a value that the form does not take.
        TypeError: for a setting that the form does not have.

    Example:
        >>> recursion("symmetric") is METHODS["symmetric"]
        True
        >>> recursion("refreshed", k=3).stored
        ('P',)
    """
    if name not in METHODS:
        close = difflib.get_close_matches(str(name), METHODS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"unknown form {name!r}{hint}: choose one of {', '.join(METHODS)}")
    if not settings:
        return METHODS[name]
    if name not in SETTINGS:
        raise TypeError(f"settings {', '.join(settings)} given; {name!r} has none, {', '.join(SETTINGS)} have some")
    return SETTINGS[name](**settings)
