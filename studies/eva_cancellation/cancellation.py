"""Eva's preconditioned gradient in an arithmetic, held against the exact one of the same numbers.

G, a, b and gamma are numbers of the format, so that what is measured is the rounding of the operations and of the
result.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import numpy as np

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners.rank_one.eva import eva, eva_split

from .cases import Part

SHAPES = {"small b": (32, 48), "large a": (32, 1024), "large sigma": (256, 384)}
SIGMA = 2.0**15  # of a layer whose range is not in question, at most: half of what float16 holds
RANGE_RATIO = 10.0  # the sigma / gamma of both


class Layer(NamedTuple):
    """What Eva is given.

    Attributes:
        G: gradient, ``[m, n]``.
        a: mean of the inputs, ``[n]``.
        b: mean of the output gradients, ``[m]``.
        gamma: damping.
    """

    G: np.ndarray
    a: np.ndarray
    b: np.ndarray
    gamma: float


def arithmetic_of(name: str, format: str) -> pl.Arithmetic:
    """The arithmetic of one of the names of `cases.PROGRAMS`.

    Args:
        name: "rounded", "accumulated", "scalars" or "inside".
        format: of what is low.

    Returns:
        The arithmetic; float32 where everything inside is, as the results are rounded to the format afterwards.
    """
    wide = pl.Arithmetic("float32", carrier="float32")
    if name == "inside":
        return wide
    if name == "scalars":
        return by_role(arrays=pl.Arithmetic(format, accumulate="float32"), scalars=wide)
    return pl.Arithmetic(format, accumulate="float32" if name == "accumulated" else None)


@lru_cache
def program(name: str, arithmetic: str, format: str) -> Callable:
    """Closed form or split in an arithmetic, its result rounded to the format; batched and compiled once a shape."""
    form = {"closed": eva, "split": eva_split}[name]
    compute = jax.vmap(pl.emulate(form, arithmetic_of(arithmetic, format)))
    return jax.jit(lambda *layers: pl.round_to(compute(*layers), format))


def rounded(x: Any, format: str) -> np.ndarray:
    """Numbers of the format, in float64."""
    return np.asarray(pl.round_to(np.asarray(x, np.float64), format), np.float64)


@lru_cache(maxsize=16)
def drawn(format: str, shape: str, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """G, a and b: G is b a^T + E with E normal and of `noise` times the norm of b a^T.

    Entries are of size one, and so sigma is about m n; but for large layers b is halved until that is below `SIGMA`, so
    that rounding alone is seen.
    """
    m, n = map(int, shape.split("x"))
    rng = np.random.default_rng([seed, m, n])
    a, b = (rounded(rng.standard_normal(k), format) for k in (n, m))
    halvings = max(0, math.ceil(math.log(m * n / SIGMA, 4)))
    b = b / 2**halvings
    E = rng.standard_normal((m, n))
    along = np.outer(b, a)
    G = along + noise * np.linalg.norm(along) / np.linalg.norm(E) * E
    return rounded(G, format), a, b


def layer(format: str, shape: str, log_ratio: float, noise: float, seed: int) -> Layer:
    """A layer whose sigma / gamma is 10^log_ratio but for the rounding of gamma."""
    G, a, b = drawn(format, shape, noise, seed)
    return Layer(G, a, b, float(rounded((a @ a) * (b @ b) / 10**log_ratio, format)))


@lru_cache(maxsize=64)
def range_layer(format: str, side: str, exponent: int, seed: int) -> Layer:
    """A layer with small b, with large a, or one so large that sigma is out of range at entries of size one.

    The exponent is that of the entries' mean square, see `cases.SIDES`. In the first a is 4, so that gamma is a number
    of float16; in the second b is small, so that |a|^2 alone can leave its range; in the third only sigma can.
    """
    m, n = SHAPES[side]
    rng = np.random.default_rng([seed, exponent])
    size_a, size_b = {
        "small b": (4.0, 10.0**-exponent),
        "large a": (2.0**exponent, 2.0**-8),
        "large sigma": (1.0, 2.0 ** (exponent - 4)),
    }[side]
    a, b = rng.standard_normal(n), rng.standard_normal(m)
    a, b = (rounded(x * (size / np.sqrt(np.mean(x * x))), format) for x, size in ((a, size_a), (b, size_b)))
    gamma = float(rounded((a @ a) * (b @ b) / RANGE_RATIO, format))
    return Layer(rounded(np.outer(b, a), format), a, b, gamma)


def exact(given: Layer) -> np.ndarray:
    """Eva's P in float64 by the split, in which nothing cancels."""
    G, a, b, gamma = given
    sigma = (a @ a) * (b @ b)
    if sigma == 0:
        return G / gamma
    unit = np.outer(b, a) / np.sqrt(sigma)
    along = np.sum(unit * G)
    beside = G - along * unit
    beside -= np.sum(unit * beside) * unit
    return beside / gamma + along / (gamma + sigma) * unit


def measure_all(cases: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Cases of one program, arithmetic, format and shape.

    Args:
        cases: of the grid.

    Returns:
        The figures of each.
    """
    first = cases[0]
    format, ranges = first["format"], first["part"] == Part.RANGE.value
    if ranges:
        given = [range_layer(format, case["side"], case["exponent"], case["seed"]) for case in cases]
    else:
        axes = ("shape", "log_ratio", "noise", "seed")
        given = [layer(format, *(case[name] for name in axes)) for case in cases]
    arguments = (np.array([getattr(one, name) for one in given], np.float32) for name in Layer._fields)
    P = np.asarray(program(first.get("program", "closed"), first["arithmetic"], format)(*arguments), np.float64)
    return [figures(one, found, pl.formats.named(format)) for one, found in zip(given, P, strict=True)]


def beside(G: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """The part of G that is orthogonal to b a^T over the part along it, in norm."""
    unit = np.outer(b, a) / np.sqrt((a @ a) * (b @ b))
    along = np.sum(unit * G)
    return float(np.linalg.norm(G - along * unit) / abs(along))


def figures(given: Layer, P: np.ndarray, format: pl.Format) -> Mapping[str, Any]:
    """Errors of a computed P; what is infinite or not a number in it makes them so.

    Args:
        given: the layer.
        P: as it was computed, ``[m, n]``.
        format: of the numbers.

    Returns:
        sigma / gamma as it is; rho, the part of G beside b a^T over that along it; whether |a|^2, |b|^2 or sigma is
        outside the normal numbers of the format; the relative error of b^T P a and that over u (1 + sigma / gamma);
        <G, P> over what it should be; the cosine of P to the exact one.
    """
    G, a, b, gamma = given
    goal, u = exact(given), format.unit_roundoff
    squares = (a @ a, b @ b, (a @ a) * (b @ b))
    ratio = float(squares[-1] / gamma)
    with np.errstate(all="ignore"):
        curved = float(abs(b @ P @ a / (b @ goal @ a) - 1))
        return {
            "ratio": ratio,
            "rho": beside(G, a, b),
            "out_of_range": bool(min(squares) < format.min_normal or max(squares) > format.max),
            "curved_error": curved,
            "error_over_law": curved / (u * (1 + ratio)),
            "descent": float(np.sum(G * P) / np.sum(G * goal)),
            "cosine": float(np.sum(P * goal) / (np.linalg.norm(P) * np.linalg.norm(goal))),
        }
