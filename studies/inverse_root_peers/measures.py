"""What is measured in each part: roots of exponents, scales, indicators, inputs and paddings."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from precond_lab import gallery

from . import habits
from .batches import Case, by_power, matrices, roots_of
from .cases import ROOTLESS, Part
from .rows import RIGHT
from .subjects import TABLE, Found, accepted, roots
from .truths import eigen, errors


def figures(subject: str, p: int, given: np.ndarray, found: Found, i: int, least: float = 0.0) -> dict[str, Any]:
    """The figures of one root.

    Args:
        subject: whose it is.
        p: of the root.
        given: the matrix.
        found: all roots.
        i: which one.
        least: what is known of the smallest eigenvalue.

    Returns:
        `error` is that of the root of A or of the matrix that the rule documents, whichever is the smaller;
        `error_root` is that of the root of A.
    """
    X, A = found.root[i], eigen(given, least)
    own = errors(X, A, p)
    meant = errors(X, A, p, TABLE[subject].means(A.values))
    error = np.fmin(own.spectral, meant.spectral)
    return {
        "error": float(error),
        "error_root": own.spectral,
        "error_update": own.update,
        "reported": float(found.reported[i]),
        "residual": float(found.residual[i]),
        "steps": int(found.steps[i]),
        "result": int(found.result[i]),
        "accepted": accepted(subject, found, i),
        "certified": bool(found.certified[i]),
    }


@by_power
def exponents(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots without a ridge; of optax also the error against the power of A that it takes instead.

    T^p is formed as T^q, with q the power of two next to p by its logarithm, at most eight. M = T^q ... z A tends to I,
    so that the product of all T tends to (z A)^{-1/q}: X is z^{1/p - 1/q} A^{-1/q}, z = (p+1) / (2 |A|_F).
    """
    subject, p = cases[0]["subject"], cases[0]["p"]
    A = matrices(cases).astype(np.float32)
    who = "optax_without_ridge" if subject == "optax" else subject
    found = roots_of(who, p, A)
    q = 2 ** min(round(np.log2(p)), 3)
    measured = []
    for i in range(len(cases)):
        z = (p + 1) / (2 * np.linalg.norm(np.float64(A[i])))
        other = errors(found.root[i] * z ** (1 / q - 1 / p), eigen(A[i]), q).spectral
        measured.append(figures(who, p, A[i], found, i) | {"power": q, "error_other": other})
    return measured


@by_power
def scales(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots of 2^k A beside that of A; k is a multiple of p."""
    subject, p = cases[0]["subject"], cases[0]["p"]
    A = matrices(cases).astype(np.float32)
    scaled = np.array([np.ldexp(M, case["scale"]) for M, case in zip(A, cases, strict=True)])
    alone, found = roots_of(subject, p, A), roots_of(subject, p, scaled)
    measured = []
    for i, case in enumerate(cases):
        k = case["scale"]
        back, reference = np.ldexp(np.float64(found.root[i]), k // p), np.float64(alone.root[i])
        finite = np.isfinite(back).all()
        difference = np.linalg.norm(back - reference, 2) / np.linalg.norm(reference, 2) if finite else np.inf
        same = bool(np.array_equal(back, reference))
        measured.append(figures(subject, p, scaled[i], found, i) | {"difference": float(difference), "same": same})
    return measured


@by_power
def indicators(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots of all condition numbers, with what is said of them, against the matrix before it was stored and after."""
    subject, p = cases[0]["subject"], cases[0]["p"]
    A = matrices(cases)
    found = roots_of(subject, p, A)
    # The certificate knows only what float32 holds, which may be another matrix, or one without a root.
    stored = A if subject.endswith("float64") else A.astype(np.float32)
    return [
        figures(subject, p, A[i], found, i, least=1 / case["condition"])
        | {"error_stored": errors(found.root[i], eigen(stored[i]), p).spectral}
        for i, case in enumerate(cases)
    ]


def matrix(name: str, n: int) -> np.ndarray:
    """An input by name, with the matrix beside it in the batch: ``[2, n, n]``."""
    A, eye = gallery.spd(max(n, 2), condition=1e2)[:n, :n], np.eye(n)
    spoiled = A.copy()
    spoiled[n // 2, n // 2] = np.nan
    unbounded = A.copy()
    unbounded[n // 2, n // 2] = np.inf
    named = {
        "well_conditioned": A,
        "ill_conditioned": gallery.spd(max(n, 2), condition=1e6)[:n, :n],
        "one_by_one": 4 * eye,
        "tiny": 1e-30 * eye,
        "huge": 1e30 * eye,
        "small_scale": 1e-10 * A,
        "large_scale": 1e10 * A,
        "beside_large": 1e-7 * A,
        "singular": gallery.rank_deficient(n, rank=max(n // 2, 1)) / n,
        "zero": 0 * eye,
        "negative": -eye,
        "indefinite": gallery.indefinite(max(n, 2), condition=1e2, negative=1e-2)[:n, :n],
        "nan": spoiled,
        "infinite": unbounded,
    }
    beside = A if name == "beside_large" else 0 * A  # which has no part in a batch's largest eigenvalue
    return np.array([named[name], beside], np.float32)


def outcome(name: str, found: Mapping[str, Any]) -> str:
    """What became of an input: right, refused, false alarm or silent."""
    right = name not in ROOTLESS and found["error"] <= RIGHT
    if found["accepted"]:
        return "right" if right else "silent"
    return "false alarm" if right else "refused"


def inputs(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Inputs by name, each on its own."""
    measured = []
    for case in cases:
        subject, p, name = case["subject"], case["p"], case["input"]
        A = matrix(name, case["n"])
        found = roots(subject, p, A)
        if name in ROOTLESS:
            known = {"error": np.nan, "reported": float(found.reported[0]), "residual": float(found.residual[0])}
            known |= {"accepted": accepted(subject, found, 0), "certified": bool(found.certified[0])}
            known |= {"result": int(found.result[0])}
        else:
            known = figures(subject, p, A[0], found, 0)
        finite = bool(np.isfinite(found.root[0]).all())
        measured.append(known | {"finite": finite, "outcome": outcome(name, known)})
    return measured


MEASURES: Mapping[Part, Callable[[Sequence[Case]], Sequence[Mapping[str, Any]]]] = MappingProxyType({
    Part.EXPONENTS: exponents,
    Part.SCALES: scales,
    Part.INDICATORS: indicators,
    Part.INPUTS: inputs,
    **habits.MEASURES,
})
"""By part: cases of one shard to the figures of each."""
