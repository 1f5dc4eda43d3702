"""The grid: one part for each thing that may go wrong."""

import enum
from collections.abc import Iterator
from itertools import product
from typing import Any

from precond_lab.study import Options


class Part(enum.StrEnum):
    """What kind of case a row is."""

    EXPONENTS = "exponents"
    SCALES = "scales"
    INDICATORS = "indicators"
    INPUTS = "inputs"
    GUARDS = "guards"
    WARM = "warm"
    PADDING = "padding"
    MINIMAX = "minimax"
    TRUNCATION = "truncation"
    TRACKING = "tracking"
    TURNED = "turned"
    ROUTINES = "routines"


POWERS = (2, 4)
EXPONENTS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
PUBLISHED = (
    "optax",
    "retried_newton",
    "unguarded_newton",
    "eigh_clamp",
    "eigh_shift",
    "eigh_pseudo",
    "eigh_batch_cut",
)
"""Rules of public codes: optax itself, and others that are written here from their formulas."""
USERS = ("user_eigh", "user_svd")
"""What one writes without much thought."""
OURS = ("coupled_newton", "eigen", "refined")
"""Methods of the package."""
SUBJECTS = (*PUBLISHED, *USERS, *OURS)
REPORTING = ("optax", "retried_newton", "eigh_clamp")
"""Those whose error indicator decides whether an optimizer takes the root."""
SCALED = (
    "optax",
    "retried_newton_ridge",
    "unguarded_newton",
    "eigh_clamp",
    "eigh_shift",
    "eigh_pseudo",
    "user_eigh",
    "coupled_newton_ridge",
    "eigen_clamp",
    "refined",
)
"""Those of other people first; `ridge`: of 1e-6 relative to the largest eigenvalue."""
SCALED_OURS = SCALED[-3:]
CONDITIONS = tuple(10.0**k for k in range(2, 11))
ORDER = 64
INPUTS = {
    "well_conditioned": ORDER,
    "ill_conditioned": ORDER,
    "one_by_one": 1,
    "tiny": ORDER,
    "huge": ORDER,
    "small_scale": ORDER,
    "large_scale": ORDER,
    "beside_large": ORDER,
    "singular": ORDER,
    "zero": ORDER,
    "negative": ORDER,
    "indefinite": ORDER,
    "nan": ORDER,
    "infinite": ORDER,
}
"""Matrices by name, with their order."""
ROOTLESS = ("zero", "negative", "indefinite", "nan", "infinite")
"""Those of which there is no inverse root, by any meaning."""
GUARDS = ("maximum", "threshold", "sum", "norm", "isnan_any", "isfinite_all", "certificate")
CHANGES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STARTS = ("cold", "previous_root", "previous_basis")
PADDED = ("optax_identity", "optax_zeros", "retried_newton_identity", "coupled_newton_size", "eigen_size")
NOISES = (0.0, 1e-8, 1e-7, 1e-6, 1e-5)
TREATMENTS = ("cut_n_eps", "cut_1e-6", "ridge_1e-6", "clamp_1e-6")
DECAYS = (0.9, 0.99, 0.999)
DRIFTS = (0.0, 1e-3)
"""Radians by which the directions of the gradients turn in an update."""
TURNS = (1e-3, 1e-2, 1e-1)
"""Radians by which a basis is off."""
FINISHES = ("quotients", "eigen")
ROUTINES = ("jax", "divide_and_conquer", "qr_iteration", "relatively_robust", "coupled_newton", "rational_minimax")


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are.
    """
    quick = options.quick
    for part, axes in _axes(quick).items():
        for values in product(*axes.values()):
            yield {"part": part.value, **dict(zip(axes, values, strict=True))}
    for (name, n), subject, p in product(INPUTS.items(), SUBJECTS, POWERS):
        yield {"part": Part.INPUTS.value, "subject": subject, "p": p, "n": n, "input": name}


def _axes(quick: bool) -> dict[Part, dict[str, tuple]]:
    n, seeds = (32, tuple(range(3))) if quick else (128, tuple(range(5)))
    several = {"n": (n,), "seed": seeds}
    stride = 24 if quick else 16
    scales = tuple(k for k in range(-96, 97, stride) if k)
    return {
        Part.EXPONENTS: {
            "subject": ("optax", "coupled_newton"),
            "p": EXPONENTS,
            "condition": (10.0, 1e2, 1e4),
            "n": (16 if quick else 64,),
            "seed": seeds,
        },
        Part.SCALES: {"subject": SCALED, "p": POWERS, "condition": (1e2, 1e4), "scale": scales, **several},
        Part.INDICATORS: {
            "subject": (*PUBLISHED[:-1], "retried_newton_float64", *USERS, *OURS),
            "p": POWERS,
            "condition": CONDITIONS,
            **several,
        },
        Part.GUARDS: {
            "format": ("float32", "bfloat16") if quick else ("float32", "bfloat16", "float16"),
            "n": (63, 64) if quick else (1, 2, 8, 31, 32, 33, 63, 64, 65, 128, 512),
            "fill": ("all", "one"),
            "guard": GUARDS,
        },
        Part.WARM: {
            "subject": STARTS,
            "p": POWERS,
            "condition": (1e2, 1e4, 1e6),
            "change": CHANGES,
            **several,
        },
        Part.PADDING: {
            "subject": PADDED,
            "p": POWERS,
            "condition": (1e2, 1e4),
            "scale": (-40, -20, -10, 0, 10, 20, 40),
            "n": (24,) if quick else (24, 100),
            "seed": seeds,
        },
        Part.MINIMAX: {
            "p": POWERS if quick else (1, 2, 3, 4, 6, 8),
            "condition": tuple(10.0**k for k in range(1, 8)),
            "n": (16, 64) if quick else (16, 64, 256, 512),
            "seed": seeds,
        },
        Part.TRUNCATION: {
            "subject": TREATMENTS,
            "p": POWERS,
            "n": (n,),
            "noise": (None, *NOISES),
            "seed": seeds,
        },
        Part.TRACKING: {
            "subject": FINISHES,
            "p": POWERS,
            "decay": DECAYS,
            "drift": DRIFTS,
            "condition": (1e2, 1e4, 1e6),
            "n": (32 if quick else 64,),
            "seed": seeds,
        },
        Part.TURNED: {
            "subject": FINISHES,
            "p": POWERS,
            "condition": (1e2, 1e4, 1e6),
            "change": TURNS,
            "n": (16, 64) if quick else (16, 64, 128),
            "seed": seeds,
        },
        Part.ROUTINES: {
            "subject": ROUTINES,
            "p": POWERS,
            "condition": CONDITIONS[:5],
            "n": (64,) if quick else (32, 128, 512),
            "seed": seeds,
        },
    }
