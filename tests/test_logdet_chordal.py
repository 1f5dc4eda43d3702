"""LogDet projections on chordal graphs: optimality, determinants, definiteness, and which trees are none."""

from collections.abc import Sequence
from fractions import Fraction as Q
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import precond_lab as pl
from precond_lab.preconditioners import logdet
from precond_lab.preconditioners.logdet import blocks, chordal
from precond_lab.preconditioners.logdet.chordal import CliqueTree, band_tree, block_tree, clique_tree, edges

U64 = 2.0**-53
DIGITS = mpmath.mpf(10) ** -40
TRIANGLES = clique_tree([[0, 1, 2], [2, 1, 3], [4, 1, 2], [2, 5, 4]])
BRANCHED = clique_tree([[0, 3, 5], [3, 5, 1], [3, 2], [1, 5, 4], [6]], [-1, 0, 0, 1, -1])

# The 5x5 example of band 2, in rationals.
C = np.array([[4, 2, 1, 9, 9], [2, 5, 1, -1, 9], [1, 1, 3, 1, 1], [9, -1, 1, 4, 2], [9, 9, 1, 2, 6]], float)
S_C = [Q(43, 14), Q(46, 11), Q(27, 10), Q(10, 3), Q(6)]
L_C = {(1, 0): Q(-5, 14), (2, 0): Q(-3, 14), (2, 1): Q(-5, 11), (3, 1): Q(4, 11), (3, 2): Q(-1, 5), (4, 2): Q(-1, 10)}
L_C[4, 3] = Q(-1, 3)
X_C = [
    [Q(14, 43), Q(1943, 6923), Q(893857, 2056131), Q(4733, 13662), Q(11, 54)],
    [Q(-5, 43), Q(-580, 6923), Q(-776, 6831), Q(-5, 54)],
    [Q(-3, 43), Q(2, 23), Q(-1, 27)],
]


class Evaluated(NamedTuple):
    X: np.ndarray
    L: np.ndarray
    D: np.ndarray
    order: np.ndarray


def evaluated(H: np.ndarray, tree: CliqueTree) -> Evaluated:
    return Evaluated(pl.evaluate(chordal.project, H, tree), *pl.evaluate(chordal.factor, H, tree))


def exactly(x: Q) -> mpmath.mpf:
    return mpmath.mpf(x.numerator) / x.denominator


def distance(A: np.ndarray, B: np.ndarray) -> mpmath.mpf:
    return max(abs(a - b) for a, b in zip(np.ravel(A), np.ravel(B), strict=True))


def minors(H: np.ndarray, clique: tuple[int, ...]) -> list[Q]:
    """The pivots of H_CC from its last vertex on, by elimination in rationals; one that is zero ends the list."""
    A = [[Q(float(H[i, j])) for j in reversed(clique)] for i in reversed(clique)]
    for k in range(len(A)):
        if A[k][k] == 0:
            return [A[j][j] for j in range(k + 1)]
        for i in range(k + 1, len(A)):
            for j in range(k + 1, len(A)):
                A[i][j] -= A[i][k] * A[k][j] / A[k][k]
        for i in range(k + 1, len(A)):
            A[i][k] = Q(0)
    return [A[k][k] for k in range(len(A))]


def determinant(H: np.ndarray, sets: tuple[tuple[int, ...], ...]) -> Q:
    product = Q(1)
    for vertices in sets:
        for pivot in minors(H, vertices):
            product *= pivot
    return product


def on_graph(tree: CliqueTree) -> list[tuple[int, int]]:
    return [(v, v) for v in range(tree.n)] + [*edges(tree)]


def off_graph(tree: CliqueTree) -> list[tuple[int, int]]:
    return [pair for pair in combinations(range(tree.n), 2) if pair not in edges(tree)]


def gram(n: int, seed: int) -> np.ndarray:
    g = np.random.default_rng(seed).integers(-3, 4, (n, n + 1))
    return (g @ g.T + np.eye(n, dtype=int)).astype(float)


@st.composite
def chordal_graphs(draw: st.DrawFn, most: int = 6) -> list[list[int]]:
    """Maximal cliques, each made of some vertices of an earlier one (not all) with new ones; vertices shuffled."""
    cliques = [list(range(draw(st.integers(1, 3))))]
    n = len(cliques[0])
    while n < most and draw(st.booleans() | st.just(value=True)):
        old = draw(st.sampled_from(cliques))
        shared = draw(st.lists(st.sampled_from(old), unique=True, max_size=len(old) - 1))
        new = draw(st.integers(1, min(2, most - n)))
        cliques.append([*shared, *range(n, n + new)])
        n += new
    label = draw(st.permutations(range(n)))
    return draw(st.permutations([[label[v] for v in clique] for clique in cliques]))


@st.composite
def two_trees(draw: st.DrawFn, n: int = 6) -> list[list[int]]:
    """Triangles, each made of an edge of an earlier one and a new vertex: all such trees have the same shapes."""
    cliques = [[0, 1, 2]]
    for v in range(3, n):
        old = draw(st.sampled_from(cliques))
        left_out = draw(st.sampled_from(old))
        cliques.append([*(w for w in old if w != left_out), v])
    label = draw(st.permutations(range(n)))
    return draw(st.permutations([[label[v] for v in clique] for clique in cliques]))


seeds = st.integers(0, 2**32 - 1)


@given(two_trees(), seeds)
@settings(max_examples=5, deadline=None)
def test_optimality_at_fifty_digits(cliques, seed):
    check_optimality(cliques, seed)


def test_optimality_with_cliques_of_all_sizes():
    check_optimality(BRANCHED.cliques, 1)


@pytest.mark.slow
@given(chordal_graphs(), seeds)
@settings(max_examples=15, deadline=None)
def test_optimality_on_all_graphs(cliques, seed):
    check_optimality(cliques, seed)


def check_optimality(cliques: Sequence, seed: int) -> None:
    tree = clique_tree(cliques)
    H = gram(tree.n, seed)
    got = evaluated(H, tree)
    with mpmath.workdps(60):
        X = mpmath.matrix(got.X.tolist())
        inverse = X**-1
        assert all(abs(inverse[i, j] - H[i, j]) < DIGITS * H.max() for i, j in on_graph(tree))
        assert all(got.X[i, j] == 0 == got.X[j, i] for i, j in off_graph(tree))
        det = determinant(H, tree.separators) / determinant(H, tree.cliques)
        assert abs(mpmath.det(X) / exactly(det) - 1) < DIGITS
        # The same X by factors, whose zeros are those of the graph.
        order = got.order.tolist()
        assert order == list(tree.order)
        L, D = got.L, got.D
        assert distance(got.X[np.ix_(order, order)], (L * D) @ L.T) < DIGITS
        assert min(D) > 0
        assert all(L[i, i] == 1 for i in range(tree.n))
        assert all(L[i, j] == 0 for i in range(tree.n) for j in range(i + 1, tree.n))
        neighbors = {*edges(tree)}
        for i, j in combinations(range(tree.n), 2):
            assert L[j, i] == 0 or tuple(sorted((order[i], order[j]))) in neighbors


@given(two_trees(), seeds)
@settings(max_examples=5, deadline=None)
def test_definite_exactly_if_every_clique_is(cliques, seed):
    check_definiteness(cliques, seed)


@pytest.mark.slow
@given(chordal_graphs(), seeds)
@settings(max_examples=15, deadline=None)
def test_definite_on_all_graphs(cliques, seed):
    check_definiteness(cliques, seed)


def check_definiteness(cliques: Sequence, seed: int) -> None:
    """For any symmetric H whose cliques and separators can be eliminated."""
    tree = clique_tree(cliques)
    rng = np.random.default_rng(seed)
    H = rng.integers(-2, 3, (tree.n, tree.n))
    H = (np.tril(H, -1) + np.tril(H, -1).T + np.diag(rng.integers(1, 8, tree.n))).astype(float)
    place = {v: i for i, v in enumerate(tree.order)}
    pivots = [minors(H, tuple(sorted(C, key=place.__getitem__))) for C in tree.cliques + tree.separators]
    assume(all(s != 0 for list_ in pivots for s in list_))
    definite = all(s > 0 for list_ in pivots for s in list_)
    X, (_, D, _) = (pl.evaluate(f, H, tree) for f in (chordal.project, chordal.factor))
    with mpmath.workdps(60):
        X = mpmath.matrix(X.tolist())
        leading = [mpmath.det(X[:k, :k]) for k in range(1, tree.n + 1)]
        assert (min(leading) > DIGITS) == definite
        assert (min(D) > 0) == definite
        inverse = X**-1  # still agrees with H on the graph, where X has an inverse
        assert all(abs(inverse[i, j] - H[i, j]) < DIGITS for i, j in on_graph(tree))


def test_worked_example_of_band_two():
    tree = band_tree(5, 2)
    got = evaluated(C, tree)
    with mpmath.workdps(60):
        assert max(abs(1 / d - exactly(s)) for d, s in zip(got.D, S_C, strict=True)) < DIGITS
        assert max(abs(got.L[at] - exactly(l)) for at, l in L_C.items()) < DIGITS
        for k, diagonal in enumerate(X_C):
            assert max(abs(got.X[i + k, i] - exactly(x)) for i, x in enumerate(diagonal)) < DIGITS
        log = mpmath.log(mpmath.mpf(53406) / 77)
        assert abs(pl.evaluate(chordal.log_det, C, tree).item() + log) < DIGITS
        assert abs(pl.evaluate(chordal.objective, got.X, C, tree).item() - 5 - log) < DIGITS
        inverse = mpmath.matrix(got.X.tolist()) ** -1
        for at, x in {(3, 0): Q(-1, 7), (4, 0): Q(9, 77), (4, 1): Q(-3, 11)}.items():
            assert abs(inverse[at] - exactly(x)) < DIGITS


def test_the_band_program_is_this_on_a_band():
    n, band = 6, 2
    H = gram(n, 4)
    banded = np.array([np.append(np.diag(H, -k), np.zeros(k)) for k in range(band + 1)])
    L, D = pl.evaluate(logdet.project, banded)
    X = pl.evaluate(lambda H: logdet.explicit(logdet.project(H)), banded)
    got = evaluated(H, band_tree(n, band))
    assert got.order.tolist() == list(range(n))
    with mpmath.workdps(60):
        assert distance(got.D, D) < DIGITS
        for k in range(1, band + 1):
            assert distance(np.diag(got.L, -k), L[k - 1][: n - k]) < DIGITS
        for k in range(band + 1):
            assert distance(np.diag(got.X, -k), X[k][: n - k]) < DIGITS


def test_the_block_program_is_this_on_blocks():
    n, size = 5, 3
    H = gram(n, 5)
    padded = np.eye(6)
    padded[:n, :n] = H
    stacked = np.stack([padded[i : i + size, i : i + size] for i in range(0, n, size)])
    factor = pl.evaluate(blocks.project_blocks, stacked)
    X = pl.evaluate(lambda H: blocks.explicit_blocks(blocks.project_blocks(H)), stacked)
    got = evaluated(H, block_tree(n, size))
    with mpmath.workdps(60):
        assert distance(got.D, factor.D.reshape(-1)[:n]) < DIGITS
        for i in range(0, n, size):
            end = min(i + size, n)
            assert distance(got.X[i:end, i:end], X[i // size][: end - i, : end - i]) < DIGITS
            # L = U^{-T}
            unit = factor.U[i // size][: end - i, : end - i].T @ got.L[i:end, i:end]
            assert distance(unit, np.eye(end - i)) < DIGITS


def test_relabeling_and_scaling():
    """X of P H P^T on the relabeled tree is P X P^T; X of S H S is S^-1 X S^-1."""
    H = gram(6, 6)
    label = [4, 0, 2, 5, 1, 3]
    relabeled = clique_tree([[label[v] for v in clique] for clique in TRIANGLES.cliques], TRIANGLES.parents)
    moved = np.zeros_like(H)
    moved[np.ix_(label, label)] = H
    S = np.array([1.0, 3.0, -0.5, 7.0, -1.0, 0.25])
    X, Y, Z = (
        pl.evaluate(chordal.project, A, tree)
        for A, tree in [(H, TRIANGLES), (moved, relabeled), (S[:, None] * H * S, TRIANGLES)]
    )
    with mpmath.workdps(60):
        assert distance(Y[np.ix_(label, label)], X) < DIGITS
        assert distance(S[:, None] * Z * S, X) < DIGITS


def test_it_is_the_minimum():
    H = gram(6, 7)
    X = np.asarray(pl.evaluate(chordal.project, H, TRIANGLES), float)
    rng = np.random.default_rng(7)
    graph = np.zeros((6, 6), bool)
    graph[tuple(zip(*on_graph(TRIANGLES), strict=True))] = True
    steps = rng.standard_normal((20, 6, 6)) * (graph | graph.T) * np.abs(X) / 8
    others = X + np.concatenate([np.zeros((1, 6, 6)), (steps + steps.swapaxes(1, 2)) / 2])
    with jax.enable_x64(True):
        objective = jax.jit(jax.vmap(lambda X: chordal.objective(X, jnp.asarray(H), TRIANGLES)))(others)
    assert np.isfinite(objective).sum() > 5  # the others are not positive definite
    assert not np.any(objective[1:] < objective[0])


def clique_bound(H: np.ndarray, tree: CliqueTree) -> float:
    """A bound on the errors of X, for each number of it.

    For a k x k matrix M of condition kappa the computed factors are those of M + Delta with |Delta| <= gamma_{k+2} |U|
    S |U^T|, of norm k gamma_{k+2} |M|; the columns of L have componentwise backward errors gamma_k, and the product has
    gamma_{k+1}: together 8 k^2 u kappa |M^-1|. Then come at most t sums of the t inverses.
    """
    sets = [s for s in tree.cliques + tree.separators if s]
    inverses = [np.linalg.norm(np.linalg.inv(H[np.ix_(s, s)]), 2) for s in sets]
    conditions = [np.linalg.cond(H[np.ix_(s, s)]) for s in sets]
    return sum(
        (8 * len(s) ** 2 * kappa + len(sets)) * U64 * size
        for s, kappa, size in zip(sets, conditions, inverses, strict=True)
    )


def test_native_float64_within_its_bound():
    """And what is off the graph is not looked at, nor ever written to."""
    n, tree = 6, TRIANGLES
    H = np.stack([gram(n, seed) * 2.0 ** -np.abs(np.subtract.outer(range(n), range(n))) for seed in range(3)])
    hidden = H.copy()
    for i, j in off_graph(tree):
        hidden[:, i, j] = hidden[:, j, i] = np.nan
    with jax.enable_x64(True):
        X = jax.jit(jax.vmap(lambda H: chordal.project(H, tree)))(hidden)
        chordal_factor = jax.jit(jax.vmap(lambda H: chordal.factor(H, tree)))(hidden)
        u = jax.vmap(lambda factor: chordal.apply(factor, jnp.arange(6.0)))(chordal_factor)
    X, L, D, order, u = map(np.asarray, (X, *chordal_factor, u))
    assert X.dtype == L.dtype == D.dtype == np.float64
    assert np.array_equal(X, X.swapaxes(1, 2))
    exact = np.asarray(pl.evaluate(chordal.project, H[0], tree), float)
    bound = clique_bound(H[0], tree)
    assert np.abs(X[0] - exact).max() <= bound
    assert np.abs((L[0] * D[0]) @ L[0].T - exact[np.ix_(order[0], order[0])]).max() <= bound
    # Its products add 2n roundings of |L| D |L^T| |g|, of which a row is at most n max |X| |g|_1.
    size = np.arange(float(n)).sum()
    assert np.abs(u[0] - exact @ np.arange(n)).max() <= size * (bound + 2 * n * U64 * n * np.abs(exact).max())
    for i, j in off_graph(tree):
        assert not X[:, i, j].any()


def test_factors_outlive_differences_of_inverses():
    """A nearly singular separator: in bfloat16 the formula of theory cancels, the factors do not."""
    tree = TRIANGLES
    H = np.eye(6) + 1.0
    H[1, 2] = H[2, 1] = 1.9375
    exact = np.asarray(pl.evaluate(chordal.project, H, tree), float)
    order = list(tree.order)
    bfloat16 = pl.Arithmetic("bfloat16")
    both = jax.jit(pl.emulate(lambda H: (chordal.project(H, tree), *chordal.factor(H, tree)), bfloat16))
    X, L, D, _ = (np.asarray(x, float) for x in both(H))
    error = np.linalg.norm(X - exact)
    assert np.linalg.norm((L * D) @ L.T - exact[np.ix_(order, order)]) < error
    assert np.array_equal(X, np.asarray(pl.round_to(X, "bfloat16")))
    assert not any(X[i, j] for i, j in off_graph(tree))


REFUSED = [
    ([], None, "no cliques"),
    ([[0, 1], []], None, "clique 1 is"),
    ([[0, 1, 1]], None, "each once"),
    ([[0, -1]], None, "none negative"),
    ([[0, 1], [1, 3]], None, "vertex 2 is in no clique"),
    ([[1, 2]], None, "vertex 0 is in no clique"),
    ([[0, 1], [1, 2]], [-1], "1 parents given for 2 cliques"),
    ([[0, 1], [1, 2]], [-1, 2], "clique 1 has the parent 2"),
    ([[0, 1], [1, 2]], [1, 0], "round a cycle"),
    ([[0, 1], [1, 2]], [0, 0], "round a cycle"),
    ([[0, 1], [1]], None, "one is within the other"),
    ([[0], [0, 1]], [-1, 0], "one is within the other"),
    ([[0, 1], [0, 1]], None, "one is within the other"),
    ([[0, 1], [1, 2], [2, 3], [3, 0]], None, r"vertex 3 is in cliques \[2, 3\]"),  # a square has no clique tree
    ([[0, 1], [1, 2], [2, 3]], [-1, 0, 0], r"vertex 2 is in cliques \[1, 2\]"),
    ([[0, 1], [1, 2]], [-1, -1], r"vertex 1 is in cliques \[0, 1\]"),
    ([[0, 1, 2], [0, 3], [1, 2, 4]], [-1, 2, 0], r"vertex 0 is in cliques \[0, 1\]"),
]


@pytest.mark.parametrize(("cliques", "parents", "message"), REFUSED)
def test_wrong_trees_are_refused(cliques, parents, message):
    with pytest.raises(ValueError, match=message):
        clique_tree(cliques, parents)


@given(chordal_graphs(most=9))
@settings(max_examples=50, deadline=None)
def test_trees(cliques):
    """A spanning tree is found for every chordal graph; its order is a perfect elimination order."""
    tree = clique_tree(cliques)
    assert tree == clique_tree(cliques, tree.parents)
    assert hash(tree) == hash(clique_tree(cliques))
    graph = {*edges(tree)}
    assert graph == {tuple(sorted(pair)) for clique in cliques for pair in combinations(clique, 2)}
    assert sorted(tree.order) == list(range(tree.n))
    for i, v in enumerate(tree.order):
        later = [w for w in tree.order[i + 1 :] if tuple(sorted((v, w))) in graph]
        assert all(tuple(sorted(pair)) in graph for pair in combinations(later, 2))


def test_band_and_block_trees_are_those_of_their_graphs():
    for n in range(1, 8):
        for k in range(8):
            band = {(i, j) for i, j in combinations(range(n), 2) if j - i <= k}
            assert {*edges(band_tree(n, k))} == band
            assert band_tree(n, k).order == tuple(range(n))
            tree = band_tree(n, k)
            assert clique_tree(tree.cliques, tree.parents) == tree
            if k:
                block = {(i, j) for i, j in combinations(range(n), 2) if i // k == j // k}
                assert {*edges(block_tree(n, k))} == block
                assert block_tree(n, k).order == tuple(range(n))
    for n, k in [(0, 1), (2, -1)]:
        with pytest.raises(ValueError, match="wanted are one or more"):
            band_tree(n, k)
    for n, k in [(0, 1), (2, 0)]:
        with pytest.raises(ValueError, match="one or more of each"):
            block_tree(n, k)


def test_wrong_sizes_are_refused():
    tree = band_tree(3, 1)
    H = jnp.eye(4)
    for f in (chordal.project, chordal.factor, chordal.log_det):
        with pytest.raises(ValueError, match="the graph has 3 vertices"):
            f(H, tree)
    for X, A in [(jnp.eye(3), H), (H, jnp.eye(3))]:
        with pytest.raises(ValueError, match="the graph has 3 vertices"):
            chordal.objective(X, A, tree)
    factor = chordal.ChordalFactor(jnp.eye(3), jnp.ones(3), jnp.arange(3))
    with pytest.raises(ValueError, match=r"g of shape \(4,\)"):
        chordal.apply(factor, jnp.ones(4))
