"""How many digits which step needs, as coupled Newton's iteration has it.

An error u in the direction of the smallest eigenvalue m of M changes X in its largest eigenvalue by u / m, relative to
it, and no later step sees it. As m grows by (1 + 1/p)^p in each of the first steps, a root with an error t takes

    log2(1 / u_k) >= log2(1 / t) + log2(1 / m_0) - k p log2(1 + 1/p)

bits in step k: the first step with a unit roundoff u is the first k that fulfills it.
"""

from math import ceil, log2

from precond_lab.study import Row

from .cases import ROUNDOFF

GENEROUS = 16
"""An error of so many unit roundoffs is near to what a format can hold; the law has it from m = 1/16 on."""
TOLERANCES = (GENEROUS, 64)
"""Errors in unit roundoffs of the narrower format for which switches are looked for."""


def growth(p: int) -> float:
    """By what coupled Newton multiplies a small eigenvalue of M in a step."""
    return (1 + 1 / p) ** p


def predicted_switch(curve: list[Row], tolerance: float) -> int:
    """The step from which on the law lets the narrower format in."""
    first = curve[0]
    bits = log2(1 / tolerance) + log2(1 / first["smallest"]) - log2(1 / ROUNDOFF[first["late"]])
    return max(0, ceil(bits / log2(growth(first["p"]))))


def measured_switch(curve: list[Row], tolerance: float) -> int | None:
    """The step from which on the error is within the tolerance, wherever the format changes; None for nowhere."""
    switch = None
    for row in reversed(curve):
        if not row["error"] <= tolerance:
            break
        switch = row["switch"]
    return switch


def developed(curve: list[Row]) -> Row | None:
    """The first row at which the smallest eigenvalue of M is at least 1 / GENEROUS; None for nowhere."""
    return next((row for row in curve if row["smallest"] is not None and row["smallest"] >= 1 / GENEROUS), None)
