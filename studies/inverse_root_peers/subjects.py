"""Who is judged: rules of public codes, roots of users, methods of the package, in one table."""

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from precond_lab.preconditioners import inverse_root as ir

from . import rules
from .rules import Said

FAST = ir.Setting(kernels=ir.LIBRARY)
THRESHOLD = 0.1
"""An optimizer keeps its old root where the error that is reported for the new one is not below this."""
UNIT = 2.0**-24


def _report(X: np.ndarray, reported: float, result: int) -> bool:
    del X, result
    return not (np.isnan(reported) or reported >= THRESHOLD)


def _finite(X: np.ndarray, reported: float, result: int) -> bool:
    del reported, result
    return bool(np.isfinite(X).all())


def _result(X: np.ndarray, reported: float, result: int) -> bool:
    del X, reported
    return result <= ir.Result.MODIFIED


def _plain(w: np.ndarray) -> np.ndarray:
    return w


def _ridged(w: np.ndarray, ridge: float) -> np.ndarray:
    return w + ridge * w.max()


def _raised(w: np.ndarray) -> np.ndarray:
    return w + rules.EPSILON


def _cut(w: np.ndarray, ratio: float | None = None) -> np.ndarray:
    return np.where(w > w.max() * (2 * len(w) * UNIT if ratio is None else ratio), w, np.inf)


class Subject(NamedTuple):
    """One of the table.

    Attributes:
        rule: of A ``[n, n]`` and p; of a batch where `whole`. Returns :class:`Said`, or a root of the package.
        accepts: whether who calls the rule takes the root, from X, what is reported, and the package's result.
        means: the eigenvalues whose root the rule documents, from those of A; infinite where the root is zero.
        whole: whether the rule looks at the batch as a whole.
    """

    rule: Callable[..., Any]
    accepts: Callable[[np.ndarray, float, int], bool]
    means: Callable[[np.ndarray], np.ndarray] = _plain
    whole: bool = False


def optax(A: jax.Array, p: rules.Power, *, ridge: float = rules.RIDGE) -> Said:
    """The root of optax with what it reports.

    Args:
        A: symmetric, ``[n, n]``.
        p: static.
        ridge: relative to the largest eigenvalue, as optax estimates it.

    Returns:
        The root.
    """
    X, reported = ir.optax_root(A, p, ridge_epsilon=ridge)  # pyright: ignore[reportArgumentType]  p may be traced
    return Said(X, jnp.asarray(reported, A.dtype), jnp.int32(0))


def _ours(method: str, *, ridge: float | None = None, **options: Any) -> Subject:
    setting = FAST._replace(ridge=None if ridge is None else ir.Ridge(ridge))
    rule = partial(ir.inverse_root, method=method, setting=setting, **options)
    return Subject(rule, _result, _plain if ridge is None else partial(_ridged, ridge=ridge))


TABLE: Mapping[str, Subject] = MappingProxyType({
    "optax": Subject(optax, _report, partial(_ridged, ridge=rules.RIDGE)),
    "optax_without_ridge": Subject(partial(optax, ridge=0.0), _report),
    "retried_newton": Subject(rules.retried_newton, _report, partial(_ridged, ridge=rules.EPSILON)),
    "retried_newton_ridge": Subject(
        partial(rules.retried_newton, ridge=rules.RIDGE), _report, partial(_ridged, ridge=rules.RIDGE)
    ),
    "retried_newton_float64": Subject(rules.retried_newton, _report, partial(_ridged, ridge=rules.EPSILON)),
    "unguarded_newton": Subject(rules.unguarded_newton, _finite, _raised),
    "eigh_clamp": Subject(rules.eigh_clamp, _report, partial(_ridged, ridge=rules.RIDGE)),
    "eigh_shift": Subject(rules.eigh_shift, _finite, _raised),
    "eigh_pseudo": Subject(rules.eigh_pseudo, _finite, _cut),
    "eigh_batch_cut": Subject(rules.eigh_batch_cut, _finite, partial(_cut, ratio=rules.RIDGE), whole=True),
    "user_eigh": Subject(rules.user_eigh, _finite),
    "user_svd": Subject(rules.user_svd, _finite),
    "coupled_newton": _ours("coupled_newton"),
    "coupled_newton_ridge": _ours("coupled_newton", ridge=rules.RIDGE),
    "eigen": _ours("eigen"),
    "eigen_clamp": _ours("eigen", policy="clamp", floor=rules.RIDGE),
    "refined": _ours("refined"),
    "rational_minimax": _ours("rational_minimax"),
})
"""Roots by name."""

STATIC = frozenset({"rational_minimax"})
"""Those compiled for each p."""


class Found(NamedTuple):
    """What is known of a batch of roots; everything begins with the axis of the batch.

    Attributes:
        root: X.
        reported: by the rule; the residual of the package's methods.
        steps: of the iteration.
        result: the package's result; CONVERGED for a rule of others.
        certified: whether the certificate, on the matrix as it was given, finds the root good.
        residual: the certificate.
    """

    root: np.ndarray
    reported: np.ndarray
    steps: np.ndarray
    result: np.ndarray
    certified: np.ndarray
    residual: np.ndarray


@cache
def program(subject: str, p: int | None) -> Callable[[jax.Array, jax.Array], Any]:
    """The roots of a batch in one compiled program, for all p where the rule allows it.

    One after the other: XLA may wait forever for decompositions of a batch that its threads share on a small machine.

    Args:
        subject: a name in TABLE.
        p: of the roots, or None if it is to be the second argument.

    Returns:
        The program, of ``[b, n, n]`` and p.
    """
    rule, _, _, whole = TABLE[subject]

    def roots(A: jax.Array, traced: jax.Array) -> tuple:
        power = traced if p is None else p
        found = rule(A, power) if whole else lax.map(lambda A: rule(A, power), A)
        if isinstance(found, Said):
            return *found, jnp.zeros(A.shape[0], jnp.int32)
        return found.root, found.residual, found.steps, found.result

    return jax.jit(roots)


@jax.jit
def certificates(A: jax.Array, X: jax.Array, p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether the certificate finds roots good, and itself.

    Args:
        A: ``[b, n, n]``, as they were given.
        X: their roots.
        p: of the roots.

    Returns:
        Two arrays ``[b]``.
    """

    def certificate(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        judged = ir.foreign(lambda A, p: pair[1])(pair[0], p, setting=FAST)
        return judged.result == int(ir.Result.CONVERGED), judged.residual

    return lax.map(certificate, (A, X))


def roots(subject: str, p: int, A: np.ndarray) -> Found:
    """The roots of a batch.

    Args:
        subject: a name in TABLE.
        p: of the roots.
        A: ``[b, n, n]``, float32, or float64 where the subject is so named.

    Returns:
        What is known of them.
    """
    wide = subject.endswith("float64")
    with jax.enable_x64(wide):
        given, power = jnp.asarray(A, jnp.float64 if wide else jnp.float32), jnp.int32(p)
        found = program(subject, p if subject in STATIC else None)(given, power)
        return Found(*map(np.asarray, jax.device_get((*found, *certificates(given, found[0], power)))))


def accepted(subject: str, found: Found, i: int) -> bool:
    """Whether who calls the rule takes the root.

    Args:
        subject: a name in TABLE.
        found: its roots.
        i: which of them.

    Returns:
        Whether it does.
    """
    return TABLE[subject].accepts(found.root[i], float(found.reported[i]), int(found.result[i]))
