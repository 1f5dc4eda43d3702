"""Starts and schedules of iterations in float32."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import jax
import numpy as np

from precond_lab import gallery
from precond_lab.linalg import power_iteration
from precond_lab.preconditioners import inverse_root as ir
from precond_lab.preconditioners.inverse_root.newton import coupled_newton
from precond_lab.preconditioners.inverse_root.newton_schulz import newton_schulz

from .cases import ACCELERATED, MATRICES, SPECTRUM
from .roots import distances, in_batches, problem, rounded, summary

KNOWN = "guo_higham_known"
SETTING = ir.Setting(kernels=ir.LIBRARY)
ABOVE = 1 + 2.0**-23
"""A largest eigenvalue that is given is larger by this factor, so that no rounding puts it below."""
PUBLISHED_LOWER = 8.5e-4**2
"""The ten published pairs of coefficients are, to the digits that they have, those of the minimax cubics that begin
with singular values of [8.5e-4, 1], and once 3/2, -1/2; here eigenvalues, the squares."""


@cache
def scaled(scaling: str, p: int) -> Callable:
    """A batch of roots by coupled Newton."""

    def root(A: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
        known = scaling == KNOWN
        name, extremes = ("guo_higham", (low, high)) if known else (scaling, None)
        found = coupled_newton(A, p, setting=SETTING, scaling=name, extremes=extremes)
        return found.root, found.steps

    return jax.jit(jax.vmap(root))


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one scaling, exponent, size and spectrum.

    Args:
        cases: of the grid.

    Returns:
        The figures of each, with the norm that Frobenius scaling divides by, in units of the largest eigenvalue.
    """
    first = cases[0]
    problems = [problem(case["n"], case["condition"], case["spectrum"], "float32") for case in cases]
    arguments = [
        (of.stored, of.values[:, 0].astype(np.float32), (of.values[:, -1] * ABOVE).astype(np.float32))
        for of in problems
    ]
    found = []
    results = in_batches(scaled(first["scaling"], first["p"]), arguments)
    for case, of, (X, steps) in zip(cases, problems, results, strict=True):
        norms = np.linalg.norm(of.values, axis=-1) / of.values[:, -1]
        found.append(summary(distances(X, of, case["p"]), steps) | {"norm": rounded(norms.max())})
    return found


@cache
def quotient(steps: int) -> Callable:
    """A batch of Rayleigh quotients."""
    return jax.jit(jax.vmap(lambda A, x: power_iteration(A, x, steps=steps).value))


def measure_quotients(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one start, number of steps, spectrum and size.

    Args:
        cases: of the grid.

    Returns:
        The least quotient of each, in units of the largest eigenvalue.
    """
    arguments, tops = [], []
    for case in cases:
        A, top = _matrices(case)
        arguments.append((A, _starts(case, A)))
        tops.append(top)
    results = in_batches(quotient(cases[0]["steps"]), arguments)
    return [{"quotient": rounded((value / top).min())} for value, top in zip(results, tops, strict=True)]


def _matrices(case: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The matrices, and their largest eigenvalues."""
    n, condition, spectrum = case["n"], case["condition"], case["spectrum"]
    if case["start"] != "orthogonal_diagonal":
        of = problem(n, condition, spectrum, "float32")
        return of.stored, of.values[:, -1]
    A = [gallery.diagonal(n, condition=condition, spectrum=spectrum, seed=seed) for seed in range(MATRICES)]
    stored = np.array(A).astype(np.float32)
    return stored, np.diagonal(stored, axis1=-2, axis2=-1).max(axis=-1)


def _starts(case: Mapping[str, Any], A: np.ndarray) -> np.ndarray:
    """A vector for each matrix."""
    x = np.random.default_rng(case["n"]).uniform(-1, 1, A.shape[:2])
    if case["start"] == "orthogonal":
        top = np.linalg.eigh(A.astype(np.float64))[1][:, :, -1]
        x -= (x * top).sum(axis=-1, keepdims=True) * top
    if case["start"] == "orthogonal_diagonal":
        d = np.diagonal(A, axis1=-2, axis2=-1)
        x = np.where(d == d.max(axis=-1, keepdims=True), 0, x)
    return x.astype(np.float32)


@cache
def accelerated(schedule: str) -> Callable:
    """A batch of inverse square roots by Newton-Schulz with a schedule of cubic polynomials."""
    steps = dict(ACCELERATED)[schedule]
    name = "polar_express" if schedule == "published" else schedule

    def root(A: jax.Array) -> tuple[jax.Array, jax.Array]:
        told = {"schedule": name, "degree": 1, "lower": PUBLISHED_LOWER, "safety": 1.0}
        found = newton_schulz(A, 2, setting=SETTING, steps=steps, **told)
        return found.root, found.steps

    return jax.jit(jax.vmap(root))


def measure_accelerated(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one schedule and one size.

    Args:
        cases: of the grid.

    Returns:
        The figures of each.
    """
    problems = [problem(case["n"], case["condition"], SPECTRUM, "float32") for case in cases]
    results = in_batches(accelerated(cases[0]["schedule"]), [(of.stored,) for of in problems])
    return [summary(distances(X, of, 2), steps) for of, (X, steps) in zip(problems, results, strict=True)]
