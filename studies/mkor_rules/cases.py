"""The grid: single steps, streams, the stabilizer, the released recursion by format, the lemma, what is not finite."""

import enum
from collections.abc import Iterator
from itertools import product
from typing import Any

from precond_lab.study import Options


class Part(enum.StrEnum):
    """What kind of case a row is."""

    STEP = "step"
    TRACK = "track"
    STABILIZER = "stabilizer"
    RELEASED = "released"
    LEMMA = "lemma"
    POISON = "poison"


GAMMAS = (0.9, 0.95, 0.99)
CODED = 0.95
"""What the released code has for gamma."""

GAINS = tuple(k / 2 for k in range(-6, 13))
"""Decimal logarithms of s = j^T J j."""

STREAMS = ("constant", "noisy", "isotropic")
"""One and the same j; a mean and noise of a third of its length; noise alone."""

RULES = ("printed", "printed, blended", "released", "true inverse")
WEIGHTS = (0.8, 0.9, 0.95, 0.98, 1.02, 1.05, 1.1, 1.5, 1.9)
"""The stabilizer's zeta, as multiples of 1 / (gamma + gamma^-3)."""

STARTS = (1.0, 1000.0)
"""J begins with the identity, or with a thousand times it."""

STORES = {
    "float64": ("rounded",),
    "float32": ("rounded",),
    "float16": ("rounded", "stored"),
    "bfloat16": ("rounded", "stored"),
    "float8_e4m3fn": ("stored",),
    "int8": ("stored",),
}
"""Formats, and whether the arrays of the recursion are rounded in every operation or J alone, when it is stored."""

ENERGIES = tuple(k / 2 + 1 / 8 for k in range(9, 33))
"""Binary logarithms of 20 + |v|^2, which bounds the condition number of J.

Its products with the u of a format are apart from 1/2, 1, and 8, so that no claim hangs on a point at its end.
"""

BETWEEN = {
    format: tuple(k / 2 + 3 / 8 for k in range(2 * first, 2 * first + 6))
    for format, first in (("float16", 12), ("bfloat16", 9))
}
"""Further ones, where a format of 16 bits begins to fail: from 2 to 16 its u (20 + |v|^2) are a factor 2^(1/4) apart.
"""

KINDS = ("definite", "aligned", "searched")
"""Of the lemma's cases: drawn; all entries at their largest with errors of one sign; the worst of many small draws."""

STABILIZERS = ("printed blend", "released reset", "reset unless finite")


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are.
    """
    quick = options.quick
    n, steps = (32, 200) if quick else (64, 400)
    for gamma, gain in product(GAMMAS, GAINS):
        yield {"part": Part.STEP.value, "gamma": gamma, "log_gain": gain, "n": 8, "seed": 0}
    for rule, stream, seed in product(RULES, STREAMS, range(3)):
        for t in range(0, steps + 1, steps // 40):
            yield {
                "part": Part.TRACK.value,
                "rule": rule,
                "stream": stream,
                "n": n,
                "steps": steps,
                "seed": seed,
                "t": t,
            }
    for gamma, stream, start, weight in product(GAMMAS, STREAMS[:2], STARTS, WEIGHTS):
        yield {
            "part": Part.STABILIZER.value,
            "gamma": gamma,
            "stream": stream,
            "start": start,
            "weight_over_bound": weight,
            "n": n,
            "steps": 2 * steps,
            "seed": 0,
        }
    for (format, modes), stream in product(STORES.items(), STREAMS[1:]):
        energies = sorted((*ENERGIES, *BETWEEN.get(format, ())))
        for mode, energy, seed in product(modes, energies, range(4 if quick else 8)):
            yield {
                "part": Part.RELEASED.value,
                "format": format,
                "mode": mode,
                "stream": stream,
                "log_energy": energy,
                "n": n,
                "steps": steps,
                "seed": seed,
            }
    for kind, format, entry in product(KINDS, ("bfloat16", "float16"), (0.1, 1.0, 10.0)):
        for d in (1, 2, 4) if kind == "searched" else (64, 256, 1024) if quick else (64, 256, 1024, 2048):
            trials = (2000 if quick else 20000) if kind == "searched" else 1
            yield {
                "part": Part.LEMMA.value,
                "kind": kind,
                "format": format,
                "entry": entry,
                "d": d,
                "trials": trials,
                "seed": 0,
            }
    for stabilizer, poison in product(STABILIZERS, ("nan", "infinity")):
        yield {"part": Part.POISON.value, "stabilizer": stabilizer, "poison": poison, "n": 8, "steps": 40, "seed": 0}
