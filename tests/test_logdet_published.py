"""SONew's published programs: each agrees with the projection where nothing breaks down, and each fails as it says."""

from fractions import Fraction as Q
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet import published, published_bands
from precond_lab.truth.evaluate import evaluate

EXACT = mpmath.mpf(10) ** -45  # of programs that are evaluated to 50 digits, with few and well-conditioned steps
CHAINS = {"released_tridiagonal", "absolute_tridiagonal"}


def variants(b: int) -> dict:
    """Those that are for this band."""
    only = {"clamped_right_side": 3} | dict.fromkeys(CHAINS, 1)
    return {name: variant for name, variant in published.VARIANTS.items() if only.get(name, b) == b}


# Example C: a band of two, whose projection is known in rationals.
C = [[4.0, 5.0, 3.0, 4.0, 6.0], [2.0, 1.0, 1.0, 2.0, 0.0], [1.0, -1.0, 1.0, 0.0, 0.0]]
# Vertices 1 and 2 have the same history; every step on this band is exact in any binary format.
TWINS = [[4.0, 4.0, 2.0], [4.0, 2.0, 0.0], [2.0, 0.0, 0.0]]
# A singular window whose nearer neighbor leaves s' = 1; with epsilon = 3/8 both roots, 5/4 and 3/4, are exact.
ROOTS = [[2.0, 1.0, 1.25], [1.0, 1.0, 0.0], [1.5, 0.0, 0.0]]


def isolated(n: int, band: int, *vertices: int) -> jax.Array:
    return logdet.edges_between_cuts(jnp.isin(jnp.arange(n), jnp.array(vertices)), band, "literal")


def dominant(b: int, *, signs: bool) -> np.ndarray:
    """Nine vertices on which nothing breaks down, also not in the first step of an elimination.

    The diagonal is at least 1, and a row has 2b entries of at most 1/(4b) beside it. Those of the first subdiagonal are
    at most a quarter of the least of the others.
    """
    rng = np.random.default_rng(b)
    H = np.concatenate([rng.uniform(1, 2, (1, 9)), rng.uniform(1 / (8 * b), 1 / (4 * b), (b, 9))])
    if b > 1:
        H[1] /= 8
    if signs:
        H[1:] *= rng.choice([-1, 1], (b, 9))
    return H


# Where nothing breaks down


@pytest.mark.parametrize("b", [1, 2, 3])
def test_every_variant_is_the_projection_where_nothing_breaks_down(b):
    epsilon = 2.0**-10
    H = {name: dominant(b, signs=name != "clamped_right_side") for name in variants(b)}
    results, projections = evaluate(
        lambda H: ({k: f(H[k], epsilon) for k, f in variants(b).items()}, jax.tree.map(logdet.project, H)), H
    )
    assert len(results) >= 4
    for name, (factor, kept) in results.items():
        assert (kept == logdet.within(9, b)).all(), name
        assert np.abs(factor.L - projections[name].L).max() < EXACT, name
        assert np.abs(factor.D - projections[name].D).max() < EXACT, name


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_chains_take_the_same_operations_as_stabilize(name):
    """Bit for bit in bfloat16: also where edges go, since only a NaN and a tie are told apart otherwise."""
    rng = np.random.default_rng(2)
    edges = rng.uniform(-1.1, 1.1, (200, 1, 8))
    H = jnp.asarray(np.concatenate([rng.uniform(0.9, 1.1, (200, 1, 8)), edges], 1)).astype(jnp.bfloat16)
    tolerance = jnp.bfloat16(0.01)

    def both(H):
        relative = name == "released_tridiagonal"
        return published.VARIANTS[name](H, tolerance), logdet.stabilize(H, tolerance, relative=relative)

    ours, theirs = jax.jit(jax.vmap(both))(H)
    assert not ours[1][:, 0, :-1].all()
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert (x == y).all()


def test_emulated_in_bfloat16_as_native():
    """The programs are plain: their emulation takes the same roundings, NaN and loops included."""
    rng = np.random.default_rng(5)
    G = rng.integers(-2, 3, (30, 2, 7)).astype(np.float32)  # sums of two integer products: singular windows abound
    H = jnp.asarray([[np.pad((g[:, k:] * g[:, : 7 - k]).sum(0), (0, k)) for k in range(3)] for g in G])
    names = ("masked_loop", "clamped", "reweighted")
    program = jax.vmap(lambda H, epsilon: [published.VARIANTS[name](H, epsilon) for name in names], (0, None))
    emulated = pl.emulate(program, "bfloat16")(H, jnp.float32(2**-7))
    native = jax.jit(program)(H.astype(jnp.bfloat16), jnp.bfloat16(2**-7))
    for x, y in zip(jax.tree.leaves(emulated), jax.tree.leaves(native), strict=True):
        np.testing.assert_array_equal(np.asarray(x, np.float32), np.asarray(y, np.float32))


# Damping


def test_the_released_norm_overwrites():
    norms = jax.jit(lambda H: (published.released_one_norm(H), logdet.one_norm(H)))
    assert norms(jnp.array([[1.0, 10.0, 1.0], [3.0, 3.0, 0.0]])) == (13.0, 16.0)
    # On a band of two the first subdiagonal leaves no trace: ones beside a diagonal of ones.
    assert norms(jnp.array([[1.0] * 6, [1.0] * 6, [0.0] * 6])) == (1.0, 3.0)


@pytest.mark.parametrize("b", [1, 2, 3])
def test_the_released_norm_by_its_words(b):
    """The last entry written stays. Integers: every sum is exact."""
    rng = np.random.default_rng(b)
    batch = rng.integers(-9, 10, (40, b + 1, 5)).astype(np.float32)
    batch[:, 0] = np.abs(batch[:, 0])
    norms, released = jax.jit(jax.vmap(lambda H: (logdet.one_norm(H), published.released_one_norm(H))))(batch)
    for H, norm, value in zip(batch, norms, released, strict=True):
        sums = list(H[0])
        for k in range(1, b + 1):
            for i in range(5 - k):
                sums[i] = H[0, i] + abs(H[k, i])
            for i in range(k, 5):
                sums[i] = H[0, i] + abs(H[k, i - k])
        assert value == max(sums) <= norm
        if b == 1:
            assert norm <= 2 * value


def test_released_damping_is_a_no_op_in_low_precision():
    # bfloat16: 3.35e-6 is more than half a unit of 2^-11 (2^-19) and less than one of 2^-10 (2^-18).
    H = jnp.array([[1, 2**-10, 2**-11], [0, 0, 0]], jnp.bfloat16)
    damped = jax.jit(published.released_damp)(H, jnp.bfloat16(3.35397e-6), jnp.bfloat16(1e-16))
    assert (damped[0] == H[0]).tolist() == [True, True, False]
    # float16: both constants are zero. The dead parameter poisons its live neighbor, which stabilize spares.
    H = jnp.array([[1, 0, 1], [0, 0, 0]], jnp.float16)
    damped = jax.jit(published.released_damp)(H, jnp.float16(1e-8), jnp.float16(1e-16))
    assert (damped == H).all()
    assert np.isnan(jax.jit(published.released_tridiagonal)(damped)[0].D[0])
    assert jax.jit(logdet.stabilize)(damped, 0.0)[0].D[0] == 1


# Chains


def test_released_chains_keep_a_nan():
    H = jnp.array([[1.0, 1.0, 1.0], [jnp.nan, 0.5, 0.0]])
    programs = (published.released_tridiagonal, published.absolute_tridiagonal, logdet.stabilize)
    results = jax.jit(lambda H: [(logdet.apply(f, jnp.ones(3)), kept) for f, kept in (p(H, 0.0) for p in programs)])(H)
    assert [kept[0, 0].item() for _, kept in results] == [True, True, False]
    assert [np.isnan(u).tolist() for u, _ in results] == [[True, True, False]] * 2 + [[False] * 3]


def test_a_tolerance_of_zero_keeps_noise():
    H = jnp.array([[1.8203125, 3.921875], [2.671875, 0]], jnp.bfloat16)
    s = Q(1.8203125) - Q(2.671875) ** 2 / Q(3.921875)
    released = jax.jit(published.released_tridiagonal)
    factor, kept = released(H, jnp.bfloat16(0))
    assert kept[0, 0]
    assert float(factor.D[0]) == 128
    assert 250 < Q(1, 128) / s < 252
    assert not released(H, jnp.bfloat16(2**-7))[1][0, 0]


def test_the_absolute_tolerance_knows_a_scale():
    H = jnp.array([[1.0, 1.0, 1.0], [0.5, 0.5, 0.0]])
    for scale, kept in ((1.0, True), (2.0**-40, False)):
        assert published.absolute_tridiagonal(scale * H, 1e-10)[1][0, :2].all() == kept
        assert published.released_tridiagonal(scale * H, 1e-7)[1][0, :2].all()


def test_the_absolute_tolerance_is_zero_in_float16():
    H = jnp.array([[1, 1], [1, 0]], jnp.float16)
    programs = (published.absolute_tridiagonal, partial(logdet.stabilize, relative=False))
    (factor, kept), (_, edges) = jax.jit(lambda H, tolerance: [f(H, tolerance) for f in programs])(
        H, jnp.float16(1e-10)
    )
    assert (kept[0, 0], factor.D[0], edges[0, 0]) == (True, jnp.inf, False)


def test_the_explicit_matrix_ascends():
    """Two vertices in bfloat16, with D > 0 and an edge that the tolerance 2u keeps."""
    H = jnp.array([[3.765625, 2.75], [3.203125, 0]], jnp.bfloat16)
    g = jnp.array([1.953125, 1.6484375], jnp.bfloat16)
    factor, kept = published.released_tridiagonal(H, jnp.bfloat16(2**-7))
    assert kept[0, 0]
    assert (factor.D > 0).all()
    slope = lambda u: sum(Q(float(x)) * Q(float(y)) for x, y in zip(g, u, strict=True))  # noqa: E731
    assert slope(published.released_direction(factor, g)) == Q(-133, 256)
    assert slope(logdet.apply(factor, g)) > 1
    exact = evaluate(lambda H, g: published.released_direction(logdet.project(H), g), H, g)
    assert np.abs(exact - evaluate(lambda H, g: logdet.apply(logdet.project(H), g), H, g)).max() < EXACT


def test_the_explicit_diagonal_in_its_order():
    """(L L) D, where L (L D) is another bfloat16."""
    factor = logdet.Factor(jnp.array([[1.0078125, 0]], jnp.bfloat16), jnp.array([1.2578125, 0], jnp.bfloat16))
    assert published.released_direction(factor, jnp.array([0, 1], jnp.bfloat16))[1] == 1.28125
    assert logdet.explicit(factor)[0, 1] == 1.2734375


# Bands: masked


def rational(x) -> Q:
    return Q(mpmath.nstr(x, 40)).limit_denominator(10**6)


def test_masking_without_solving_again_on_example_c():
    kept = isolated(5, 2, 2)  # vertex 3 of 1, ..., 5 alone: (1, 2) and (4, 5) remain
    struck, solved = evaluate(lambda H: (published_bands.masked(H, kept), logdet.project(H, kept)), np.array(C))
    assert (rational(-struck.L[0, 0]), rational(1 / struck.D[0])) == (Q(5, 14), Q(23, 7))
    assert (rational(-solved.L[0, 0]), rational(1 / solved.D[0])) == (Q(2, 5), Q(16, 5))
    # The optimality condition: X^{-1} agrees with H on the graph. Of the masked one it does not.
    inverse = evaluate(logdet.inverse_band, solved)
    assert np.abs(np.where(kept[0], inverse[1] - C[1], 0)).max() < EXACT
    inverse = evaluate(logdet.inverse_band, struck)
    assert rational(inverse[1, 0]) == Q(25, 14)  # H has 2
    # It costs divergence: the minimizer of the reduced problem has the lower objective.
    reduced = np.where(np.concatenate([np.ones((1, 5), bool), kept]), C, 0)
    struck_value, least = (float(evaluate(logdet.objective, f, reduced).item()) for f in (struck, solved))
    assert struck_value > least + 1e-4


MASKED = [[1.0, 1.0, 1.0, 1.0], [0.75, 0.875, 31 / 32, 0.0], [0.375, 27 / 32, 0.0, 0.0]]


def test_masking_makes_a_positive_complement_negative():
    """s_1 is 1/10 before, 7/16 on the reduced graph, and -7/20 where psi is masked; so the loop drops a good edge."""
    kept = isolated(4, 2, 2)
    before, struck, solved = evaluate(
        lambda H: (logdet.project(H), published_bands.masked(H, kept), logdet.project(H, kept)), np.array(MASKED)
    )
    assert [rational(1 / f.D[0]) for f in (before, struck, solved)] == [Q(1, 10), Q(-7, 20), Q(7, 16)]

    def loops(H):
        once, loop = (published.masked_loop(H, 2**-4, passes=passes) for passes in (1, None))
        return once, loop, logdet.stabilize(H, 2**-4, rule="literal")[1]

    once, loop, better = jax.jit(loops)(jnp.array(MASKED))
    assert once[1].tolist() == better.tolist() == kept.tolist()
    assert once[0].D[0] < 0
    assert not loop[1].any()
    assert loop[0].D.tolist() == [1.0] * 4


def test_the_masked_loop_ends():
    # A dead parameter fails for ever; here no more than n times. Twins and rank one end in the diagonal.
    dead = jnp.array([[1.0, 0.0, 1.0, 1.0], [0.0] * 4, [0.0] * 4])
    loop = jax.jit(published.masked_loop)
    assert loop(dead, 2**-7)[0].D[1] == jnp.inf
    factor, kept = loop(jnp.array(TWINS), 2**-7)
    assert kept.tolist() == [[False, True, False], [False, False, False]]
    assert factor.D.tolist() == [0.25, 0.5, 0.5]


# Bands: clamped


def test_lifted_complements_add_up_along_the_chain():
    """Rank one, epsilon 1/8: each vertex is lifted by 1/4, and the first entry of X^{-1} collects all of it."""
    factor, kept = published.clamped(jnp.ones((2, 4)), 2**-3)
    assert kept.tolist() == [[True, True, True, False]]
    assert factor.D.tolist() == [4.0, 4.0, 4.0, 1.0]
    assert logdet.inverse_band(factor).tolist() == [[1.75, 1.5, 1.25, 1.0], [1.5, 1.25, 1.0, 0.0]]
    # Not even the projection of the diagonal that it comes to with the stored edges.
    assert logdet.project(jnp.array([[1.75, 1.5, 1.25, 1.0], [1.0] * 4])).L[0, 0] != factor.L[0, 0]


@pytest.mark.parametrize("b", [1, 2, 3])
def test_clamped_steps_are_as_long_as_allowed(b):
    """D_jj H_jj <= 1 / (2 epsilon), with equality where s was lifted: everywhere but at the end, for rank one."""
    g = jnp.array([1.0, -2.0, 4.0, 1.0, 0.5, -1.0])
    factor, _ = jax.jit(lambda g: published.clamped(logdet.band_outer(g, band=b), 2**-7))(g)
    lengths = np.asarray(factor.D * g * g)
    assert lengths.tolist() == [64.0] * 5 + [1.0]
    assert published.clamped(jnp.zeros((b + 1, 3)), 2**-7)[0].D.tolist()[-1] == 0


def test_the_clamped_right_side_forgets_negative_correlations():
    epsilon = 2.0**-7
    identity = np.array([[1.0] * 4] + [[0.0] * 4] * 3, np.float32)

    def changed(**entries: float) -> np.ndarray:
        H = identity.copy()
        for name, value in entries.items():
            i, j = (int(digit) - 1 for digit in name[1:])
            H[abs(i - j), min(i, j)] = value
        return H

    cases = [
        (changed(H13=-0.5), [0, -epsilon / 2, 0], [0, -0.5, 0]),
        (changed(H13=0.5), [0, 0.5, 0], [0, 0.5, 0]),
        # What the first step makes zero becomes positive: psi_2 = epsilon / 2.
        (changed(H12=0.5, H13=0.5, H23=1.0, H33=2.0), [0.5 - epsilon / 2, epsilon / 2, 0], [0.5, 0, 0]),
        # What the second step makes negative stays.
        (changed(H13=0.5, H34=0.5), [0, 2 / 3, -1 / 3], [0, 2 / 3, -1 / 3]),
        # A singular window: its pivot is lifted to epsilon.
        (changed(H23=1.0, H13=epsilon / 2), [-0.5, 0.5, 0], [np.nan] * 3),
    ]
    programs = jax.vmap(lambda H: (published.clamped_right_side(H, epsilon)[0], logdet.project(H)))
    ours, true = jax.jit(programs)(np.stack([H for H, _, _ in cases]))
    for k, (_, psi, projected) in enumerate(cases):
        assert np.abs(-ours.L[k, :, 0] - np.array(psi)).max() <= 2**-24  # two roundings of numbers under 1
        if np.isfinite(projected).all():
            assert np.abs(-true.L[k, :, 0] - np.array(projected)).max() <= 2**-24
        else:
            assert not np.isfinite(true.L[k, :, 0]).any()


# Bands: reweighted


class Window(NamedTuple):
    """The window of a vertex in rationals."""

    A: list[list[Q]]
    e: list[Q]
    h: Q
    pivots: list[Q]
    s_nearer: Q
    s: Q


def window(H: np.ndarray, j: int) -> Window | None:
    """By elimination of [A e; e^T H_jj]; None where a pivot is zero."""
    b, n = H.shape[0] - 1, H.shape[1]
    entry = lambda p, q: Q(float(H[abs(p - q), min(p, q)])) if max(p, q) < n else Q(p == q)  # noqa: E731
    order = [*range(j + 1, j + b + 1), j]
    S = [[entry(p, q) for q in order] for p in order]
    A, e, h = [row[:b] for row in S[:b]], S[b][:b], S[b][b]
    pivots, complements = [], []
    for k in range(b):
        complements.append(S[b][b])
        pivots.append(S[k][k])
        if S[k][k] == 0:
            return None
        for r in range(k + 1, b + 1):
            f = S[r][k] / S[k][k]
            S[r] = [x - f * y for x, y in zip(S[r], S[k], strict=True)]
    return Window(A, e, h, pivots, complements[-1], S[b][b])


def number(x: Q) -> mpmath.mpf:
    return mpmath.mpf(x.numerator) / x.denominator


@pytest.mark.parametrize("b", [1, 2, 3])
def test_reweighting_by_its_theorem(b):
    """Random bands, most of them indefinite by the farthest subdiagonal, in two scales.

    NaN just where s' < epsilon H_jj (for a positive pivot); else a regression that meets every equation but the last,
    with the s that was asked for.
    """
    rng, epsilon = np.random.default_rng(b), 2.0**-7
    rows = [rng.integers(3, 9, (24, 1, 6)), rng.integers(-4, 5, (24, b - 1, 6)), rng.integers(-9, 10, (24, 1, 6))]
    batch = np.concatenate(rows, 1).astype(float)
    batch[12:] /= 16
    roots = ("published", "nearest")
    both = evaluate(
        lambda H: [jax.vmap(partial(published.reweighted, root=root), (0, None))(H, epsilon) for root in roots], batch
    )
    count = {"NaN": 0, "solved": 0, "farther": 0}
    with mpmath.workdps(50):
        for case, j in np.ndindex(24, 6):
            w = window(batch[case], j)
            if w is None or w.s == 0:
                continue
            (published_psi, nearest_psi), kept = [-f.L[case, :, j] for f, _ in both], both[0][1][case, :, j]
            assert kept.tolist() == [j + k < 6 and (k < b or w.s > 0) for k in range(1, b + 1)]
            if w.s > 0:
                continue
            if (w.s_nearer - Q(epsilon) * w.h) * w.pivots[-1] < 0:
                count["NaN"] += 1
                assert all(mpmath.isnan(x) for psi in (published_psi, nearest_psi) for x in psi)
                continue
            count["solved"] += 1
            *near, far = map(number, w.e)
            h = number(w.h)
            away = []
            for psi in (published_psi, nearest_psi):
                *met, t = (mpmath.fsum(number(x) * y for x, y in zip(row, psi, strict=True)) for row in w.A)
                assert all(abs(x - y) < 1e-30 for x, y in zip(met, near, strict=True))
                assert abs(h - mpmath.fsum(x * y for x, y in zip(psi, [*near, t], strict=True)) - epsilon * h) < 1e-30
                away.append(abs(t - far))
            # Both roots are at the same distance from the middle, so that one of them is the nearer one.
            assert away[1] <= away[0] + EXACT
            count["farther"] += bool(away[0] > away[1] + EXACT)
    assert count["solved"] > 3
    assert (count["NaN"] > 3) == (b > 1)
    assert (count["farther"] > 0) == (b > 1)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_reweighting_fails_on_identical_adjacent_histories(dtype):
    """Every step up to the root of a negative number is exact, in any format."""
    epsilon = jnp.asarray(jnp.finfo(dtype).eps, dtype)
    programs = (published.reweighted, partial(published.reweighted, root="nearest"), logdet.stabilize)
    *results, (factor, kept) = jax.jit(lambda H: [f(H, epsilon) for f in programs])(jnp.array(TWINS, dtype))
    assert all(np.isnan(result.L[:, 0]).all() for result, _ in results)
    assert np.isfinite(factor.L).all()
    assert kept.tolist() == [[False, True, False], [False, False, False]]


def test_reweighting_fails_on_rank_one():
    g = jnp.array([1.0, 2.0, 4.0, 2.0, 1.0])
    for b in (2, 3):
        L = evaluate(lambda g, b=b: published.reweighted(logdet.band_outer(g, band=b), 2.0**-23)[0].L, g)
        assert all(mpmath.isnan(x) for x in L[:, :-1].ravel())
    # In float32 the discriminant is lost in its own cancellation: NaN for some and noise for others.
    G = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
    program = jax.jit(jax.vmap(lambda g: published.reweighted(logdet.band_outer(g, band=2), 2.0**-23)))
    factor, kept = jax.tree.map(np.asarray, program(G))
    changed = ~kept[:, 1, :4]
    share = np.isnan(factor.L[:, :, :4]).any(1)[changed].mean()
    assert changed.sum() > 500
    assert 0.05 < share < 0.95


def test_ties():
    """s = 3/4 fails the loop at a tolerance of 3/4; it is left alone by the reweighting, which asks for s <= 0."""
    H = jnp.array([[1.0, 1.0], [0.5, 0.0]])
    both = jax.jit(lambda H: (published.masked_loop(H, 0.75), published.reweighted(H, 0.875)))
    (loop, kept), (weighed, taken) = both(H)
    assert (loop.D.tolist(), kept.any().item()) == ([1.0, 1.0], False)
    assert (weighed.L[0, 0], taken[0, 0]) == (-0.5, True)


def test_the_published_root_is_the_farther_one():
    """The farthest statistic is 3/2; its two weights are 5/4 and 3/4. Scaling H by 16 changes the choice."""
    H, epsilon = jnp.array(ROOTS), 0.375

    def weight(scale, root):
        factor, kept = published.reweighted(scale * H, epsilon, root=root)
        assert not kept[1, 0]
        assert factor.D[0] * (epsilon * scale * 2) == 1
        psi = -factor.L[:, 0]
        return float(psi[0] * H[1, 1] + psi[1] * H[0, 2])

    assert [weight(1.0, "nearest"), weight(1.0, "published")] == [1.25, 0.75]
    assert [weight(16.0, "nearest"), weight(16.0, "published")] == [1.25, 1.25]


def test_misuse():
    band, chain = jnp.ones((3, 4)), jnp.ones((2, 4))
    with pytest.raises(ValueError, match="chains"):
        published.released_tridiagonal(band)
    with pytest.raises(ValueError, match="chains"):
        published.absolute_tridiagonal(band, 0.0)
    with pytest.raises(ValueError, match="three subdiagonals"):
        published.clamped_right_side(chain, 0.0)
    with pytest.raises(ValueError, match="unknown root"):
        published.reweighted(chain, 0.0, root="upper")  # pyright: ignore
    for variant in (published.masked_loop, published.clamped, published.reweighted):
        with pytest.raises(ValueError, match="without subdiagonals"):
            variant(jnp.ones((1, 4)), 0.0)
    with pytest.raises(ValueError, match="needs a mask"):
        published_bands.masked(band, jnp.ones((1, 4), bool))
    with pytest.raises(ValueError, match="wanted"):
        published.released_direction(logdet.project(band), jnp.ones(4))
