"""What is measured of the habits around a root: guards, warm starts, padding, truncation, tracking, routines."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import lax

from precond_lab import gallery
from precond_lab.preconditioners import inverse_root as ir

from . import rules
from .batches import Case, by_power, matrices, roots_of
from .cases import Part
from .subjects import FAST, THRESHOLD, optax
from .truths import Errors, eigen, errors


def _maxima(x: jax.Array) -> dict[str, jax.Array]:
    largest = jnp.max(jnp.abs(x))
    return {
        "maximum": jnp.isnan(largest),
        "threshold": jnp.isnan(largest) | (largest >= THRESHOLD),
        "largest": largest.astype(jnp.float32),
    }


def _others(x: jax.Array) -> dict[str, jax.Array]:
    X, eye = x.astype(jnp.float32), jnp.eye(x.shape[0], dtype=jnp.float32)
    judged = ir.foreign(lambda A, p: X)(eye, 2, setting=FAST)
    return {
        "sum": jnp.isnan(jnp.sum(x)),
        "norm": jnp.isnan(jnp.linalg.norm(x)),
        "isnan_any": jnp.any(jnp.isnan(x)),
        "isfinite_all": ~jnp.all(jnp.isfinite(x)),
        "certificate": judged.result != int(ir.Result.CONVERGED),
    }


@cache
def _guards() -> tuple[Callable, Callable]:
    # Apart, so that nothing but the maximum is compiled with it.
    return jax.jit(_maxima), jax.jit(_others)


def guards(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Whether guards see NaN in a root that is the identity otherwise, or in its error, which is zero otherwise."""
    measured = []
    for case in cases:
        n = case["n"]
        x = np.full((n, n), np.nan) if case["fill"] == "all" else np.eye(n)
        x[n // 2, n // 2] = np.nan
        maxima, others = (f(jnp.asarray(y, case["format"])) for f, y in zip(_guards(), (x - np.eye(n), x), strict=True))
        measured.append({
            "elements": n * n,
            "flagged": bool((maxima | others)[case["guard"]]),
            "largest": float(maxima["largest"]),
            "backend": jax.default_backend(),
        })
    return measured


def _one_by_one(root: Callable) -> Callable:
    """A program of matrices, the last argument for all, as one of batches."""
    return jax.jit(lambda *given: lax.map(lambda one: root(*one, given[-1]), given[:-1]))


@cache
def _started(subject: str) -> Callable:
    def root(A: jax.Array, F: jax.Array, Q: jax.Array, p: jax.Array) -> tuple:
        if subject == "previous_basis":
            found = ir.tracked(A, p, basis=Q, setting=FAST)
            return found.root, found.residual, found.steps
        said = rules.newton_by_report(A, p, growth=rules.GROWTH) if subject == "cold" else None
        said = rules.warm_newton(A, p, previous=F) if said is None else said
        return said.root, said.reported, said.steps

    def judged(A: jax.Array, F: jax.Array, Q: jax.Array, p: jax.Array) -> tuple:
        X, reported, steps = root(A, F, Q, p)
        certified = ir.foreign(lambda A, p: X)(A, p, setting=FAST)
        return X, reported, steps, certified.result == int(ir.Result.CONVERGED), certified.residual

    return _one_by_one(judged)


@by_power
def warm(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots of (1 - change) A + change B, from nothing, or from the exact root or basis of A."""
    subject, p = cases[0]["subject"], cases[0]["p"]
    before, given, F, Q = [], [], [], []
    for case in cases:
        axes = {"n": case["n"], "condition": case["condition"]}
        A = gallery.spd(**axes, seed=2 * case["seed"])
        B = gallery.spd(**axes, seed=2 * case["seed"] + 1)
        w, V = eigen(A, 1 / case["condition"])
        before.append(A)
        given.append(np.float32((1 - case["change"]) * A + case["change"] * B))
        F.append((V * w ** (-1 / p)) @ V.T)
        Q.append(V)
    arrays = (jnp.asarray(np.array(x), jnp.float32) for x in (given, F, Q))
    X, reported, steps, certified, residual = jax.device_get(_started(subject)(*arrays, jnp.int32(p)))
    measured = []
    for i in range(len(cases)):
        now = eigen(given[i])
        measured.append({
            "condition_now": float(now.values[-1] / now.values[0]),
            "error": errors(X[i], now, p).spectral,
            "reported": float(reported[i]),
            "steps": int(steps[i]),
            "certified": bool(certified[i]),
            "residual": float(residual[i]),
        })
    return measured


@cache
def _padded(subject: str, n: int) -> Callable:
    def root(A: jax.Array, p: jax.Array) -> jax.Array:
        if subject.endswith("_identity"):
            A = A + jnp.diag((jnp.arange(A.shape[0]) >= n).astype(A.dtype))
        if subject.startswith("optax"):
            return optax(A, p).root
        if subject.startswith("retried"):
            return rules.retried_newton(A, p, ridge=rules.RIDGE).root
        method, _, _ = subject.rpartition("_")
        size = n if A.shape[0] > n else None
        return ir.inverse_root(A, p, method=method, setting=FAST._replace(size=size, ridge=ir.Ridge(rules.RIDGE))).root

    return _one_by_one(root)


@by_power
def padding(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots of 2^k A with a third more rows, beside those without."""
    subject, p, n = (cases[0][name] for name in ("subject", "p", "n"))
    A = np.array([
        np.ldexp(np.float32(gallery.spd(n, condition=case["condition"], seed=case["seed"])), case["scale"])
        for case in cases
    ])
    wide = np.pad(A, ((0, 0), (0, n // 3), (0, n // 3)))
    compute = _padded(subject, n)
    alone, found = (np.asarray(compute(jnp.asarray(x), jnp.int32(p)), np.float64) for x in (A, wide))
    measured = []
    for i in range(len(cases)):
        X, Y = alone[i], found[i][:n, :n]
        finite = bool(np.isfinite(Y).all())
        with np.errstate(divide="ignore", invalid="ignore"):
            entries = np.nanmax(np.abs(Y - X) / np.abs(X)) if finite else np.inf
        w = eigen(A[i])
        ridged = w.values + rules.RIDGE * w.values[-1]
        measured.append({
            "difference": float(np.linalg.norm(Y - X, 2) / np.linalg.norm(X, 2)) if finite else math.inf,
            "difference_entries": float(entries),
            "same": bool(np.array_equal(X, Y)),
            "error": errors(Y, w, p, ridged).spectral,
        })
    return measured


@by_power
def minimax(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots by the rational iteration."""
    p = cases[0]["p"]
    A = matrices(cases).astype(np.float32)
    found = roots_of("rational_minimax", p, A)
    return [
        {"error": errors(found.root[i], eigen(A[i]), p).spectral, "result": int(found.result[i])}
        for i in range(len(cases))
    ]


@cache
def _treated(subject: str) -> Callable:
    def root(A: jax.Array, p: jax.Array) -> jax.Array:
        eps = float(jnp.finfo(A.dtype).eps)
        if subject == "ridge_1e-6":
            return ir.eigen(A, p, setting=FAST._replace(ridge=ir.Ridge(rules.RIDGE))).root
        policy, _, amount = subject.partition("_")
        floor = A.shape[0] * eps if amount == "n_eps" else rules.RIDGE
        return ir.eigen(A, p, setting=FAST, policy=policy, floor=floor).root

    return _one_by_one(root)


@by_power
def truncation(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots of a matrix of full rank, or of rank n / 2 with noise of some size, both with a condition number of 1e6.

    For the latter the truth is the root of the matrix without noise on its range, and zero elsewhere; the eigenvalues
    on the range are from 1 to 1e-2.
    """
    subject, p, n = (cases[0][name] for name in ("subject", "p", "n"))
    given, truth = [], []
    for case in cases:
        if case["noise"] is None:
            A = gallery.spd(n, condition=1e6, seed=case["seed"])
            given.append(np.float32(A))
            truth.append(eigen(A, 1e-6))
            continue
        generator = np.random.default_rng([case["seed"], 7])
        V, _ = np.linalg.qr(generator.standard_normal((n, n)))
        w = np.concatenate([np.zeros(n - n // 2), np.geomspace(1e-2, 1.0, n // 2)])
        E = generator.standard_normal((n, n)) / np.sqrt(n)
        given.append(np.float32((V * w) @ V.T + case["noise"] * (E @ E.T)))
        truth.append((w, V))
    X = np.asarray(_treated(subject)(jnp.asarray(np.array(given)), jnp.int32(p)), np.float64)
    measured = []
    for i, (w, V) in enumerate(truth):
        found = _errors_on_range(X[i], w, V, p)
        measured.append({"error": found.spectral, "error_update": found.update})
    return measured


def _errors_on_range(X: np.ndarray, w: np.ndarray, V: np.ndarray, p: int) -> Errors:
    means = np.where(w > 0, w, np.inf)
    return errors(X, eigen((V * w) @ V.T)._replace(values=w, vectors=V), p, means)


TRACKED_STEPS = 400
EVERY = 10
LATEST = 10
"""Of the last so many bases the median is taken."""


@cache
def _tracked(finish: str) -> Callable:
    def root(A: jax.Array, Q: jax.Array, p: jax.Array) -> tuple:
        found = ir.tracked(A, p, basis=Q, setting=FAST, finish=finish)
        return found.root, found.basis, found.apart

    return _one_by_one(root)


def _turn(n: int, angle: float, generator: np.random.Generator) -> np.ndarray:
    """An orthogonal matrix that turns some plane by an angle, and no plane by more: Cayley's transform."""
    K = generator.standard_normal((n, n))
    K = np.tan(angle / 2) * (K - K.T) / np.linalg.norm(K - K.T, 2)
    return np.linalg.solve(np.eye(n) - K, np.eye(n) + K)


@by_power
def tracking(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots of a decaying average of G G^T, from a basis that makes one QR step every ten updates.

    Each gradient has eight columns, with standard deviations in directions that are fixed, or turn by an angle in each
    update. The average starts from their covariance, and the basis from its eigenvectors. The root is compared with
    that of the average at the update, so that nothing is stale.
    """
    finish, p, n = (cases[0][name] for name in ("subject", "p", "n"))
    generators = [np.random.default_rng([case["seed"], 11]) for case in cases]
    mixing = np.array([
        np.linalg.qr(g.standard_normal((n, n)))[0] * np.geomspace(1.0, case["condition"] ** -0.5, n)
        for g, case in zip(generators, cases, strict=True)
    ])
    turns = np.array([_turn(n, case["drift"], g) for g, case in zip(generators, cases, strict=True)])
    decay = np.array([case["decay"] for case in cases])[:, None, None]
    A = mixing @ np.swapaxes(mixing, 1, 2)
    Q = jnp.asarray(np.linalg.eigh(A)[1], jnp.float32)
    series: list[list[tuple[float, float, float]]] = [[] for _ in cases]
    for step in range(1, TRACKED_STEPS + 1):
        mixing = turns @ mixing
        G = mixing @ np.array([g.standard_normal((n, 8)) for g in generators]) / np.sqrt(8)
        A = decay * A + (1 - decay) * (G @ np.swapaxes(G, 1, 2))
        if step % EVERY == 0:
            given = jnp.asarray((A + np.swapaxes(A, 1, 2)) / 2, jnp.float32)
            X, Q, apart = _tracked(finish)(given, Q, jnp.int32(p))
            if step > TRACKED_STEPS - LATEST * EVERY:
                for i in range(len(cases)):
                    found = errors(np.asarray(X[i]), eigen(np.asarray(given[i])), p)
                    series[i].append((found.spectral, found.update, float(apart[i])))
    measured = []
    for i, values in enumerate(series):
        error, update, apart = np.median(values, axis=0)
        w = np.linalg.eigvalsh(A[i])
        measured.append({
            "condition_now": float(w[-1] / w[0]),
            "error": float(error),
            "error_update": float(update),
            "apart": float(apart),
        })
    return measured


@by_power
def turned(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots after one QR step from eigenvectors that are turned by an angle."""
    finish, p, n = (cases[0][name] for name in ("subject", "p", "n"))
    A = matrices(cases).astype(np.float32)
    turns = (_turn(n, case["change"], np.random.default_rng([case["seed"], 13])) for case in cases)
    Q = np.array([turn @ eigen(M).vectors for turn, M in zip(turns, A, strict=True)])
    X, _, apart = _tracked(finish)(jnp.asarray(A), jnp.asarray(Q, jnp.float32), jnp.int32(p))
    measured = []
    for i, M in enumerate(A):
        now = eigen(M)
        found = errors(np.asarray(X[i]), now, p)
        measured.append({
            "condition_now": float(now.values[-1] / now.values[0]),
            "error": found.spectral,
            "error_update": found.update,
            "apart": float(apart[i]),
        })
    return measured


DRIVERS = {"divide_and_conquer": "evd", "qr_iteration": "ev", "relatively_robust": "evr"}


@by_power
def routines(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Roots in float32 by eigen-decompositions of different routines, and by iterations."""
    subject, p = cases[0]["subject"], cases[0]["p"]
    A = matrices(cases).astype(np.float32)
    if subject in DRIVERS:
        X = [_by_driver(M, p, DRIVERS[subject]) for M in A]
    else:
        X = roots_of("user_eigh" if subject == "jax" else subject, p, A).root
    return [{"error": errors(X[i], eigen(A[i]), p).spectral} for i in range(len(cases))]


def _by_driver(A: np.ndarray, p: int, driver: str) -> np.ndarray:
    w, V = scipy.linalg.eigh(A, driver=driver)
    if w.dtype != np.float32:
        raise TypeError(f"the driver {driver} gave {w.dtype}, not float32")
    with np.errstate(invalid="ignore"):
        return ((V * w ** np.float32(-1 / p)) @ V.T).astype(np.float64)


MEASURES: Mapping[Part, Callable[[Sequence[Case]], Sequence[Mapping[str, Any]]]] = MappingProxyType({
    Part.GUARDS: guards,
    Part.WARM: warm,
    Part.PADDING: padding,
    Part.MINIMAX: minimax,
    Part.TRUNCATION: truncation,
    Part.TRACKING: tracking,
    Part.TURNED: turned,
    Part.ROUTINES: routines,
})
"""By part: cases of one shard to the figures of each."""
