"""Program, evaluation and target of the LogDet projection, held together in every named format.

Rational numbers judge. With u the unit roundoff, beta the correlation of an edge and short of underflow, these are
theorems for u <= 1/8; theta stands for a product of two rounding errors, of which |theta| <= 2u holds strictly, since
each is at most u / (1 + u):

T3  |fl(s) - s| <= kappa u s with kappa = 2 / (1 - beta^2). For fl(psi H_12) = (1 + theta) beta^2 H_11; where
    beta^2 (1 - 2u) >= 1/2 the subtraction is exact (Sterbenz), so that the error is at most 2u beta^2 H_11, and
    elsewhere its own rounding adds no more than the bound has to spare, as 1 - beta^2 > 2u / (1 + 4u).
T4  fl(s) <= 0 implies 1 - beta^2 <= 2u beta^2, so 1 - beta^2 < 2u.
T7  s > 2u H_11 in the format implies beta^2 < 1, whatever H: s <= (1 - beta^2) H_11 + 2u beta^2 H_11.
"""

from collections.abc import Iterator
from fractions import Fraction as Q
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precond_lab as pl
from precond_lab.diagnosis.logdet_condition import pivots
from precond_lab.preconditioners import logdet
from precond_lab.truth.logdet import Status, direction, logdet_projection

# Formats that are computed in; the laws hold beyond them, but narrower ones leave no chain that does not degenerate.
NAMES = ("bfloat16", "float16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "tfloat32")
EVERY_FORMAT = pytest.mark.parametrize("name", NAMES)
seeds = st.integers(0, 2**32 - 1)
CHAINS, LENGTH = 1024, 5  # one shape, so that each format compiles once
DIGITS = mpmath.mpf(10) ** -40


@pytest.fixture(autouse=True)
def _double():
    """Results in float64, which holds every format."""
    with jax.enable_x64(True):
        yield


def unit(name: str) -> Q:
    return Q(pl.formats.named(name).unit_roundoff)


def rounded(x, name: str) -> np.ndarray:
    return np.asarray(pl.round_to(np.asarray(x, np.float64), name), np.float64)


def drawn(name: str, seed: int, chains: int = CHAINS, n: int = LENGTH, *, wild: bool = False) -> tuple:
    """Chains H [chains, 2, n] and gradients g, values of the format; 1 - beta^2 log-uniform in [u/4, 1].

    Wild ones also have beta of 1, beyond 1, infinite, or NaN.
    """
    rng = np.random.default_rng(seed)
    diagonal = rounded(2.0 ** rng.uniform(-1, 1, (chains, n)), name)
    pivot = (float(unit(name)) / 4) ** rng.random((chains, n - 1))
    beta = np.sqrt(1 - pivot)
    if wild:
        kinds = [beta, np.ones_like(beta), rng.uniform(1, 2, beta.shape), np.full_like(beta, np.nan)]
        beta = np.choose(rng.choice(4, beta.shape, p=[0.7, 0.15, 0.1, 0.05]), kinds)
    edge = beta * rng.choice([-1.0, 1.0], beta.shape) * np.sqrt(diagonal[:, 1:] * diagonal[:, :-1])
    H = np.stack([diagonal, np.pad(rounded(edge, name), ((0, 0), (0, 1)))], axis=1)
    return H, rounded(rng.uniform(1, 2, (chains, n)) * rng.choice([-1.0, 1.0], (chains, n)), name)


class Steps(NamedTuple):
    """What the programs make of one chain, the numbers on the way, and the edges that other rules keep."""

    factor: logdet.Factor
    kept: Any
    u: Any
    s: Any
    psi: Any
    products: Any
    operands: Any
    y: Any
    z: Any
    naive: Any
    literal: Any
    absolute: Any


def steps(H, g, tolerance) -> Steps:
    factor, kept = logdet.stabilize(H, tolerance)
    psi, s = logdet.schur_complements(H)
    psi = psi[0, :-1]
    L, edge = factor.L[0, :-1], H[1, :-1]
    y = jnp.concatenate([g[:-1] + L * g[1:], g[-1:]])
    z = factor.D * y
    products, operands = jnp.stack([psi * edge, L * g[1:], L * z[:-1]]), jnp.stack([edge, L, L * z[:-1]])
    naive = logdet.apply(logdet.project(H), g)
    others = [logdet.stabilize(H, tolerance, **o)[1] for o in ({"rule": "literal"}, {"relative": False})]
    return Steps(factor, kept, logdet.apply(factor, g), s, psi, products, operands, y, z, naive, *others)


@cache
def _stepwise(name: str):
    return pl.emulate(jax.vmap(steps, (0, 0, None)), name)


def stepwise(name: str, H, g, tolerance) -> Steps:
    return jax.tree.map(np.asarray, _stepwise(name)(H, g, np.float64(tolerance)))


class Chain:
    """What the emulated program made of one chain, beside exact rationals."""

    def __init__(self, H, g, computed: Steps, name):
        factor, kept, u, s, psi, products, operands, y, z, *_ = computed
        self.H, self.g, self.kept, self.u, self.s = H, g, kept, u, s
        self.L, self.D = factor.L[0], factor.D
        self.tiny = pl.formats.named(name).min_normal
        self.n = len(g)
        clean = lambda x, of: (np.abs(x) > self.tiny) & np.isfinite(x) | (of == 0)  # noqa: E731
        # Quotients, products and reciprocals are out of reach of underflow and overflow; sums always are.
        self.clean_schur = clean(psi, H[1, :-1]) & clean(products[0], operands[0])
        self.clean = (
            (self.clean_schur | ~kept[0, :-1]).all()
            and clean(products[1:], operands[1:]).all()
            and clean(z, y).all()
            and clean(self.D, np.ones(1)).all()
        )

    def pivot(self, i: int) -> Q:
        """1 - beta^2 of an edge."""
        a, c, e = Q(self.H[0, i]), Q(self.H[0, i + 1]), Q(self.H[1, i])
        return 1 - e * e / (a * c)

    def exact(self) -> tuple[list[Q], list[Q]]:
        """L and D on the kept edges."""
        L = [Q(-self.H[1, i]) / Q(self.H[0, i + 1]) if self.kept[0, i] else Q(0) for i in range(self.n)]
        D = [1 / (Q(self.H[0, i]) * (self.pivot(i) if self.kept[0, i] else 1)) for i in range(self.n)]
        return L, D


def emulated(name: str, seed: int, tolerance, count: int = 48, *, wild: bool = False) -> Iterator[Chain]:
    """The first chains of a draw."""
    H, g = drawn(name, seed, wild=wild)
    computed = stepwise(name, H, g, tolerance)
    return (Chain(H[k], g[k], jax.tree.map(lambda x, k=k: x[k], computed), name) for k in range(count))


def apply_exactly(L, D, g) -> list[Q]:
    """L (D (L^T g)) of rationals."""
    n = len(g)
    z = [D[i] * (g[i] + (L[i] * g[i + 1] if i < n - 1 else 0)) for i in range(n)]
    return [z[i] + (L[i - 1] * z[i - 1] if i else 0) for i in range(n)]


# Program, evaluation, target


def as_fraction(x) -> Q:
    return Q(*x.as_integer_ratio())


def off_by(factor, X) -> mpmath.mpf:
    """Largest difference of L D L^T and the band X, relative to the diagonal."""
    with mpmath.workdps(60):
        n, worst = X.shape[1], mpmath.mpf(0)
        for i in range(n):
            before = factor.L[0, i - 1] ** 2 * factor.D[i - 1] if i else 0
            worst = max(worst, abs(factor.D[i] + before - X[0, i]) / X[0, i])
            if i < n - 1:
                scale = mpmath.sqrt(X[0, i] * X[0, i + 1])
                worst = max(worst, abs(factor.L[0, i] * factor.D[i] - X[1, i]) / scale)
        return worst


@EVERY_FORMAT
@given(seeds)
@settings(max_examples=2, deadline=None)
def test_evaluation_equals_the_target(name, seed):
    """Of the full graph where it has a projection, and of the reduced one always."""
    n = 3
    H, g = (x[0] for x in drawn(name, seed, 1, n))
    tolerance = 2 * float(unit(name))
    full = pl.evaluate(logdet.project, H, digits=60)
    stable, kept = pl.evaluate(logdet.stabilize, H, tolerance, digits=60)
    target = logdet_projection(H, 60)
    exact_pivots = [1 - Q(H[1, i]) ** 2 / (Q(H[0, i]) * Q(H[0, i + 1])) for i in range(n - 1)]
    assert (target.status is Status.SOLVED) == (min(exact_pivots) > 0)
    assert kept.tolist() == [[*(p > Q(tolerance) for p in exact_pivots), False]]
    cases = [(stable, logdet_projection(H, 60, kept), kept)]
    cases += [(full, target, None)] if target.status is Status.SOLVED else []
    for factor, projection, mask in cases:
        assert projection.status is Status.SOLVED
        assert off_by(factor, projection.band) <= DIGITS
        u = pl.evaluate(logdet.apply, factor, g, digits=60)
        magnitude = pl.evaluate(lambda f, v: logdet.apply(jax.tree.map(jnp.abs, f), jnp.abs(v)), factor, g, digits=20)
        for x, y, scale in zip(u, direction(H, g, 60, mask), magnitude, strict=True):
            with mpmath.workdps(60):
                assert abs(x - y) <= DIGITS * scale
    # The whole program at once is its parts.
    together = pl.evaluate(lambda h, v: logdet.apply(logdet.stabilize(h, tolerance)[0], v), H, g, digits=60)
    parts = pl.evaluate(logdet.apply, stable, g, digits=60)
    assert max(abs(a - b) for a, b in zip(together, parts, strict=True)) <= DIGITS * max(abs(b) for b in parts)


@EVERY_FORMAT
def test_the_reduced_graph_of_the_emulated_program_has_a_projection(name):
    """T7, and evaluation and target on the edges that the emulated program keeps."""
    checked = 0
    for chain in emulated(name, 0, 2 * float(unit(name)), 16, wild=True):
        edges = np.flatnonzero(chain.kept[0])
        assert all(chain.pivot(i) > 0 for i in edges if chain.clean_schur[i])
        if len(edges) == 0 or not chain.clean_schur[edges].all():
            continue
        checked += 1
        projection = logdet_projection(chain.H, 50, chain.kept, method="elimination")
        assert projection.status is Status.SOLVED
        factor = pl.evaluate(lambda H, kept: logdet.project(logdet.cut(H, kept)), chain.H, chain.kept, digits=60)
        assert off_by(factor, projection.band) <= DIGITS
    assert checked >= 4


@EVERY_FORMAT
def test_it_takes_a_tolerance_of_two_u_for_that(name):
    """With a tolerance of 0 the program keeps edges whose H_12^2 is at least H_11 H_22."""
    beyond = {0: 0, 2: 0}
    for seed in range(4):
        H, g = drawn(name, seed, wild=True)
        no_projection = np.array([pivots(chain) <= 0 for chain in H])
        for multiple in beyond:
            found = stepwise(name, H, g, multiple * float(unit(name)))
            normal = np.minimum(np.abs(found.psi), np.abs(found.products[:, 0])) > pl.formats.named(name).min_normal
            beyond[multiple] += int((found.kept[:, 0, :-1] & normal & no_projection).sum())
    assert beyond[2] == 0
    assert (beyond[0] > 0) == (pl.formats.named(name).precision >= 8)


A = [[2.0, 3.0, 1.0], [1.0, -1.0, 0.0]], [1.0, -2.0, 3.0], ["3/5", "1/2", "1"], ["1", "1/6", "7/2"]
B = (
    [[4.0, 5.0, 9.0, 8.0], [2.0, -3.0, 6.0, 0.0]],
    [1.0, 1.0, -1.0, 2.0],
    ["5/16", "1/4", "2/9", "1/8"],
    ["3/16", "11/120", "-1/2", "2/3"],
)
N1 = [[1.7890625, 1.59375, 2.0], [1.6875, 0.5, 0.0]], [1.0, -1.0, 0.5]


def recovered(x, largest: int = 10**9) -> Q:
    """The rational of small denominator that a number of 50 digits stands for."""
    exact = as_fraction(x)
    near = exact.limit_denominator(largest)
    assert abs(exact - near) <= Q(1, 10**45) * abs(near)
    return near


@pytest.mark.parametrize("example", [A, B], ids=["A", "B"])
def test_worked_examples_are_these_rationals(example):
    H, g, D, u = example
    factor = pl.evaluate(logdet.project, np.array(H))
    assert [recovered(x) for x in factor.D] == [Q(x) for x in D]
    assert [recovered(x) for x in pl.evaluate(logdet.apply, factor, np.array(g))] == [Q(x) for x in u]
    stable, kept = pl.evaluate(logdet.stabilize, np.array(H), 2.0**-7)
    assert kept[0, :-1].all()
    assert [recovered(x) for x in stable.D] == [Q(x) for x in D]


# Rounding errors and breakdown


@EVERY_FORMAT
@given(seeds)
@settings(max_examples=5, deadline=None)
def test_schur_complements_obey_the_condition(name, seed):
    """T3, T4, and for D one rounding more: |fl(D) - D| <= D (kappa u + u) / (1 - kappa u)."""
    u, seen, beyond = unit(name), 0, 0
    for k, chain in enumerate(emulated(name, seed, 0.0, CHAINS)):
        if k >= 48 and beyond:  # in eight bits, few errors of a draw are so large
            break
        for i in np.flatnonzero(chain.clean_schur):
            pivot = chain.pivot(i)
            if pivot <= 0:
                continue
            seen += 1
            s, computed, kappa = pivot * Q(chain.H[0, i]), Q(chain.s[i]), 2 / pivot
            assert abs(computed - s) <= kappa * u * s
            if computed <= 0:
                assert pivot <= 2 * u * (1 - pivot)
                assert not chain.kept[0, i]
            else:
                assert chain.kept[0, i]
            if kappa * u < 1 and chain.D[i] > chain.tiny:
                beyond += abs(computed - s) > u * s
                assert abs(Q(chain.D[i]) * s - 1) <= (kappa * u + u) / (1 - kappa * u)
    assert seen >= 48
    assert beyond  # the condition number is needed: errors of more than a rounding do occur


@EVERY_FORMAT
@pytest.mark.parametrize("multiple", [0, 2, 8])
@given(seeds)
@settings(max_examples=3, deadline=None)
def test_directions_obey_the_condition(name, multiple, seed):
    """|fl(u) - u| <= ((1 + epsilon) (1 + u)^7 - 1) |L| D |L|^T |g| on the kept edges, epsilon the bound on D.

    The longest way to an entry of the result: L twice from quotients, the products L g, D y and L z, two sums.
    """
    u, seen = unit(name), 0
    for k, chain in enumerate(emulated(name, seed, multiple * float(u), CHAINS, wild=multiple > 0)):
        if k >= 48 and seen >= 6:  # few chains of float8_e5m2 are clean: of some draws, fewer than six of the first 48
            break
        condition = [2 / chain.pivot(i) if chain.kept[0, i] else Q(0) for i in range(chain.n)]
        if not chain.clean or any(k < 0 or k * u >= 1 for k in condition):
            continue
        seen += 1
        (L, D), g = chain.exact(), [Q(x) for x in chain.g]
        exact = apply_exactly(L, D, g)
        scale = apply_exactly([abs(x) for x in L], D, [abs(x) for x in g])
        for i in range(chain.n):
            worst = max(condition[max(i - 1, 0) : i + 1])
            epsilon = (worst * u + u) / (1 - worst * u)
            assert abs(Q(chain.u[i]) - exact[i]) <= ((1 + epsilon) * (1 + u) ** 7 - 1) * scale[i]
    assert seen >= 6


def near_singular(precision: int, offsets=range(1, 41)):
    """All triples next to singularity up to scaling by powers of two, exact in float64, in chunks.

    The k-th offset takes for H12 the k-th largest value with H12^2 < H11 H22; from 0 down, those above.
    """
    significands = 1 + np.arange(2 ** (precision - 1)) * 2.0 ** (1 - precision)
    values = np.concatenate([2.0**e * significands for e in (-2, -1, 0, 1, 2)])
    for first in np.array_split(significands, max(1, len(significands) // 32)):
        a, c = (x.ravel() for x in np.meshgrid(first, np.concatenate([significands, 2 * significands])))
        below = np.searchsorted(values**2, a * c)  # so many values have a square below
        triples = [(a[below >= k], c[below >= k], values[below[below >= k] - k]) for k in offsets]
        yield np.concatenate(triples, axis=1)


@cache
def of_pairs(program, name: str):
    """A program of H on many pairs of vertices at once."""

    def pair(a, c, e):
        return program(jnp.stack([jnp.stack([a, c]), jnp.stack([e, jnp.zeros_like(e)])]))

    emulated = pl.emulate(jax.vmap(pair), name)
    return lambda triples: jax.tree.map(lambda x: np.asarray(x, np.float64), emulated(*np.float32(triples)))


def schur_and_reciprocal(H):
    return logdet.schur_complements(H)[1][0], logdet.project(H).D[0]


def exhaust(name: str) -> dict:
    """T3 and T4 on every near-singular pair of vertices."""
    u, format = float(unit(name)), pl.formats.named(name)
    found = {"triples": 0, "infinite": 0, "negative": 0, "constant": 0.0, "last": 0.0, "at": ()}
    for a, c, e in near_singular(format.precision):
        s, D = of_pairs(schur_and_reciprocal, name)((a, c, e))
        minor = a * c - e * e  # exact: the products have at most 22 bits
        pivot, exact = minor / (a * c), minor / c
        assert ((s > 0) | (pivot <= 2 * u * (1 - pivot))).all()
        assert (np.isfinite(D) == (s != 0)).all()
        found["triples"] += len(a)
        found["infinite"] += int((s == 0).sum())
        found["negative"] += int((D < 0).sum())
        found["constant"] = max(found["constant"], float((np.abs(s - exact) / exact * pivot / u).max()))
        last = np.where(s > 0, 0.0, pivot) / u
        if last.max() > found["last"]:
            k = int(np.argmax(last))
            found |= {"last": float(last[k]), "at": (a[k], c[k], e[k])}
    assert found["constant"] <= 2
    return found


def test_every_near_singular_pair_in_bfloat16():
    found = exhaust("bfloat16")
    assert (found["triples"], found["infinite"], found["negative"]) == (128 * 256 * 40, 7431, 59)
    assert found["constant"] == pytest.approx(1.765, abs=5e-4)
    assert found["last"] == pytest.approx(1.6745, abs=5e-5)
    assert found["at"] == (1.03125, 3.546875, 1.90625)


@pytest.mark.slow
def test_every_near_singular_pair_in_float16():
    found = exhaust("float16")
    assert found["triples"] == 1024 * 2048 * 40
    assert found["constant"] == pytest.approx(1.93, abs=5e-3)
    assert found["last"] == pytest.approx(1.880, abs=5e-4)
    assert found["infinite"] > 50 * found["negative"] > 0


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2"])
def test_every_pair_in_eight_bits(name):
    found = exhaust(name)
    assert found["infinite"] > 0
    assert found["last"] < 2


def determinant(H):
    return H[0, 0] * H[0, 1] - H[1, 0] * H[1, 0]


def schur(H):
    return logdet.schur_complements(H)[1][0]


@pytest.mark.parametrize(("name", "misjudged"), [("bfloat16", 2), pytest.param("float16", 37, marks=pytest.mark.slow)])
def test_float32_judges_the_sign_of_stored_pairs(name, misjudged):
    """T6: the determinant's sign is exact in float32; with psi only a few singular pairs seem positive."""
    wrong = total = 0
    for triples in near_singular(pl.formats.named(name).precision, range(-2, 3)):
        a, c, e = triples
        sign = np.sign(a * c - e * e)
        total += len(a)
        assert (np.sign(of_pairs(determinant, "float32")(triples)) == sign).all()
        s = of_pairs(schur, "float32")(triples)
        assert (sign[np.sign(s) != sign] == 0).all()
        wrong += int(((s > 0) & (sign == 0)).sum())
    assert total == 5 * 2 ** (2 * pl.formats.named(name).precision - 1)
    assert wrong == misjudged


# Worked failures


def test_a_negative_pivot_in_bfloat16():
    H, g = (np.array(x, np.float32) for x in N1)
    factor = pl.emulate(logdet.project, "bfloat16")(H)
    assert pl.emulate(schur, "bfloat16")(H) == -0.0078125
    assert factor.D[0] == -128
    u = np.asarray(pl.emulate(lambda h, v: logdet.apply(logdet.project(h), v), "bfloat16")(H, g), np.float64)
    assert u.tolist() == [-264.0, 280.0, 0.44140625]
    assert round(float(u @ g), 2) == -543.78
    exact = pl.evaluate(logdet.project, H)
    assert [1 / recovered(x) for x in exact.D] == [Q(5, 2176), Q(47, 32), Q(2)]
    direction_of = [recovered(x) for x in pl.evaluate(logdet.apply, exact, g)]
    assert [round(float(x), 7) for x in direction_of] == [896.0, -949.4718398, 0.4414894]
    assert round(float(sum(x * Q(y) for x, y in zip(direction_of, g.tolist(), strict=True))), 2) == 1845.69
    for tolerance in (0.0, 2.0**-7):
        stable, kept = pl.emulate(logdet.stabilize, "bfloat16")(H, tolerance)
        assert kept.tolist() == [[False, True, False]]
        assert stable.D.tolist() == [0.55859375, 0.6796875, 0.5]
        u = np.asarray(pl.emulate(logdet.apply, "bfloat16")(stable, g), np.float64)
        assert u.tolist() == [0.55859375, -0.765625, 0.44140625]
        assert round(float(u @ g), 4) == 1.5449
        reduced = [float(x) for x in direction(H, g, 50, kept)]
        assert [round(x, 7) for x in reduced] == [0.558952, -0.7659574, 0.4414894]
        assert round(float(np.dot(reduced, g)), 7) == 1.5456541


def test_a_small_pivot_in_bfloat16_is_noise():
    H = np.array([[1.8203125, 3.921875], [2.671875, 0.0]], np.float32)
    assert pl.emulate(schur, "bfloat16")(H) == 0.0078125
    s = 1 / as_fraction(pl.evaluate(logdet.project, H).D[0])
    assert f"{float(s):.4e}" == "3.1125e-05"
    assert round(float(Q(0.0078125) / s)) == 251
    stabilized = pl.emulate(logdet.stabilize, "bfloat16")
    assert stabilized(H, 0.0)[1].tolist() == [[True, False]]
    assert stabilized(H, 2.0**-7)[1].tolist() == [[False, False]]


def test_a_pivot_far_from_zero_becomes_zero_in_bfloat16():
    H = np.array([[1.03125, 3.546875], [1.90625, 0.0]], np.float32)
    factor, events = pl.emulate(logdet.project, "bfloat16", events=True)(H)
    assert np.isinf(factor.D[0])
    assert int(events.divide_by_zero) == 1
    pivot = 1 / (as_fraction(pl.evaluate(logdet.project, H).D[0]) * Q(1.03125))
    assert round(float(pivot), 7) == 0.0065412
    assert round(float(pivot / unit("bfloat16")), 3) == 1.675


# What Algorithm 3 guarantees


def everything(name: str, seed: int, n: int = LENGTH, chains: int = CHAINS) -> np.ndarray:
    """Positive diagonals over a format's whole range, and edges of every kind."""
    rng, format = np.random.default_rng(seed), pl.formats.named(name)
    # A CPU flushes float64 subnormals, which no wider carrier holds.
    subnormals = 0 if format.precision == 53 else format.precision - 1
    low, high = format.min_exponent - subnormals, min(format.max_exponent, -format.min_exponent - 1)
    draw = lambda: 2.0 ** rng.uniform(low, high, (chains, n))  # noqa: E731
    center = rng.uniform(low, high, (chains, 1))
    near = 2.0 ** np.clip(center + rng.uniform(-2, 2, (chains, n)), low, high)
    diagonal = np.maximum(rounded(np.where(rng.random((chains, 1)) < 0.7, near, draw()), name), 2.0**low)
    singular = np.sqrt(diagonal) * np.sqrt(np.roll(diagonal, -1, axis=1))
    kinds = [singular, singular * (1 + rng.normal(size=singular.shape) * float(unit(name))), draw()]
    kinds += [np.zeros_like(singular), np.full_like(singular, np.nan), np.full_like(singular, np.inf)]
    edge = np.choose(rng.choice(6, singular.shape, p=[0.2, 0.4, 0.25, 0.05, 0.05, 0.05]), kinds)
    return np.stack([diagonal, rounded(edge * rng.choice([-1.0, 1.0], edge.shape), name)], axis=1)


@EVERY_FORMAT
@pytest.mark.parametrize("multiple", [0, 2])
@given(seeds)
@settings(max_examples=4, deadline=None)
def test_stabilized_factors_are_finite_and_positive(name, multiple, seed):
    """Whatever finite H with a positive diagonal, edges not even numbers: D is the reciprocal of a positive s."""
    H, format = everything(name, seed), pl.formats.named(name)
    tolerance = multiple * float(unit(name))
    found = stepwise(name, H, np.ones((CHAINS, LENGTH)), tolerance)
    one_sided, literal = found.kept[:, 0], found.literal[:, 0]
    stands = found.s > rounded(tolerance * H[:, 0], name)
    assert np.array_equal(one_sided[:, :-1], stands[:, :-1])
    assert np.array_equal(literal[:, :-1], stands[:, :-1] & stands[:, 1:])
    assert not (one_sided | literal)[:, -1].any()
    assert (literal <= one_sided).all()
    assert (literal < one_sided).any()
    assert not (one_sided & ~np.isfinite(H[:, 1])).any()
    assert np.isfinite(found.factor.L).all()
    remaining = np.where(one_sided, found.s, H[:, 0])
    assert (remaining > 0).all()
    overflows = Q(format.max) + Q(2) ** (format.max_exponent - format.precision)
    for x, D in zip(remaining[:64].ravel().tolist(), found.factor.D[:64].ravel().tolist(), strict=True):
        beyond = 1 / Q(x) >= overflows
        assert (np.isfinite(D) and D > 0) != beyond
        if not beyond:  # the error is half a spacing: u D, or half of the smallest number
            assert abs(Q(D) - 1 / Q(x)) <= max(unit(name) * Q(D), Q(format.min_subnormal) / 2)


@EVERY_FORMAT
@pytest.mark.parametrize("multiple", [0, 2])
def test_stabilized_directions_descend(name, multiple):
    """Not a theorem (rounding errors add up along a chain), but what drawn chains do; the naive program does not."""
    H, g = drawn(name, 7, wild=True)
    found = stepwise(name, H, g, multiple * float(unit(name)))
    assert (np.isfinite(found.factor.D) & (found.factor.D > 0)).all()
    assert np.isfinite(found.u).all()
    assert ((found.u * g).sum(axis=1) > 0).all()
    with np.errstate(invalid="ignore"):
        assert (~((found.naive * g).sum(axis=1) > 0)).sum() > CHAINS // 8


@EVERY_FORMAT
def test_the_relative_rule_alone_is_free_of_scale(name):
    H, g = drawn(name, 11, wild=True)
    once, *others = (stepwise(name, H * 2.0**k, g, 2 * float(unit(name))) for k in (0, 1, 2))
    assert 0 < once.kept[:, 0, :-1].mean() < 1
    for other in others:
        assert np.array_equal(once.kept, other.kept)
        assert (once.absolute <= other.absolute).all()
        assert (once.absolute < other.absolute).any()


# Statistics


def test_decay_rates_as_bfloat16_has_them():
    given_as = jax.tree.map(float, pl.round_to(np.array([0.999, 0.99, 0.972396]), "bfloat16").tolist())
    assert given_as == [1.0, 0.98828125, 0.97265625]


@pytest.mark.parametrize("name", NAMES)
def test_an_average_that_forgets_nothing_learns_nothing(name):
    """Where 0.999 rounds to 1, in bfloat16 and the formats of 8 bits, the statistics never move."""
    both = pl.emulate(lambda *x: (logdet.average(*x[:3]), logdet.average(*x)), name)
    arguments = np.float32(0.999), np.float32(2.0**-8)
    statistics = start = logdet.Statistics(np.ones((2, 8), np.float32), np.float32(0))
    for g in np.float32(rounded(np.random.default_rng(0).uniform(1, 2, (50, 8)), name)):
        statistics, _ = both(statistics, g, *arguments)
    stuck = float(pl.round_to(np.float64(0.999), name)) == 1
    assert stuck == (name in {"bfloat16", "float8_e4m3fn", "float8_e5m2"})
    assert (np.asarray(statistics.H) == start.H).all() == stuck
    assert (float(statistics.weight) == 0) == stuck
    # Handed over from outside, 1 - beta2 is there.
    _, learning = both(start, np.full(8, 2, np.float32), *arguments)
    assert float(learning.weight) == 2.0**-8


def test_an_average_in_bfloat16_stagnates():
    """From 1 toward the mean of 4: at beta2 = 0.99 an update comes to less than half a spacing of H on the way."""

    def run(statistics, g, beta2):
        return jax.lax.fori_loop(0, 2000, lambda _, x: logdet.average(x, g, beta2), statistics)

    start, g = logdet.Statistics(np.ones((2, 4), np.float32), np.float32(1)), np.full(4, 2, np.float32)
    run = pl.emulate(run, "bfloat16")
    off = {beta2: float(run(start, g, np.float32(beta2)).H[0, 0]) / 4 - 1 for beta2 in (0.9, 0.99)}
    assert abs(off[0.9]) <= 0.05 < abs(off[0.99])


def test_squares_underflow_in_float16_and_are_counted():
    """All 31744 finite positive numbers: g^2 is lost up to 2^-12.5, where it meets half the smallest number."""
    g = np.arange(1, 0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    H, events = pl.emulate(lambda x: logdet.band_outer(x, band=0), "float16", events=True)(g)
    lost = g**2 <= 2.0**-25
    assert np.array_equal(np.asarray(H[0]) == 0, lost)
    assert int(events.underflow) == lost.sum() > 0
    assert int(events.overflow) == (g**2 >= 65520).sum() == np.isinf(np.asarray(H[0])).sum() > 0
    assert int(events.invalid) == 0
    assert g[lost].max() < 2**-12.5 < g[~lost].min()


def test_a_dead_parameter_in_float16_poisons_its_neighbor():
    """The published damping is zero there, 0 / 0 follows, and the product with L passes it on."""
    H = np.array([[0.0, 1.0, 1.0], [0.0, 0.5, 0.0]], np.float32)
    g = np.array([0.0, 1.0, 1.0], np.float32)

    def program(h, v, epsilon, floor):
        return logdet.apply(logdet.stabilize(logdet.damp(h, epsilon, floor), 0.0)[0], v)

    run = pl.emulate(program, "float16", events=True)
    u, events = run(H, g, np.float32(1e-8), np.float32(1e-16))
    assert np.isnan(u).tolist() == [True, True, False]
    assert int(events.divide_by_zero) == 1
    assert int(events.underflow) == 2
    u, events = run(H, g, np.float32(1e-8), np.float32(2.0**-14))
    assert np.isfinite(u).all()
    assert int(events.divide_by_zero) == 0
