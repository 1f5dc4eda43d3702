"""All claims of the study, and its answer."""

from precond_lab.study import Row

from . import polar_claims, schedule_claims, start_claims
from .cases import ROUNDOFF
from .law import developed
from .selection import curves

CLAIMS = (*schedule_claims.CLAIMS, *start_claims.CLAIMS, *polar_claims.CLAIMS)


def answer(rows: list[Row]) -> str:
    """The sentence below the question."""
    axes = {"method": "coupled_newton", "p": 4, "n": 16, "condition": 1e6}
    (curve,) = curves(rows, early="float32", late="bfloat16", **axes).values()
    (reverse,) = curves(rows, early="bfloat16", late="float32", **axes).values()
    at = developed(curve)
    if at is None:
        raise LookupError("M never develops")
    u = ROUNDOFF["bfloat16"]
    return (
        "At the first ones, until M has no eigenvalue below 1/16. Coupled Newton at a condition number of "
        f"1e6, p = 4, has an error of {at['error']:.2g} ({at['error'] / u:.2g} u) with {at['switch']} steps in float32 "
        f"and the rest, of {curve[-1]['taken']:g}, in bfloat16; of {curve[0]['error']:.2g} with all steps in bfloat16, "
        f"and of {reverse[1]['error']:.2g} with the first in bfloat16 and all others in float32."
    )
