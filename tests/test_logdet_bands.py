"""The LogDet program on bands of any width: laws of the projection and of its stabilization."""

from fractions import Fraction as Q

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.preconditioners import logdet
from precond_lab.truth.logdet import exact_projection

BANDS = (0, 1, 2, 4)
N = 9
C = [[4.0, 5.0, 3.0, 4.0, 6.0], [2.0, 1.0, 1.0, 2.0, 0.0], [1.0, -1.0, 1.0, 0.0, 0.0]]


def gram(band: int, *, n: int = N, steps: int = 12, seed: int = 0) -> np.ndarray:
    """The band of the Gram matrix of small integers, exact in every arithmetic here."""
    G = np.random.default_rng(seed).integers(-3, 4, (steps, n)).astype(float)
    return np.stack([np.append((G[:, k:] * G[:, : n - k]).sum(0), np.zeros(k)) for k in range(band + 1)])


def dense(H: np.ndarray) -> np.ndarray:
    """The symmetric matrix, of whatever numbers the band holds."""
    H = np.asarray(H)
    n = H.shape[1]
    A = np.full((n, n), H[0, 0] * 0, dtype=H.dtype)
    for k, row in enumerate(H):
        for i in range(n - k):
            A[i + k, i] = A[i, i + k] = row[i]
    return A


def close(computed, exact, digits: int = 40) -> bool:
    """Whether numbers of 50 digits agree with rationals to so many."""
    pairs = zip(rational(computed).ravel(), np.ravel(np.asarray(exact, object)), strict=True)
    return all(abs(x - y) <= Q(1, 10**digits) * max(1, abs(y)) for x, y in pairs)


def rational(x: np.ndarray) -> np.ndarray:
    """Numbers of 50 digits as they are: even a minus sign would round them to the digits of the context."""
    return np.vectorize(lambda y: Q(*y.as_integer_ratio()), otypes=[object])(x)


# The projection


@pytest.mark.parametrize("band", BANDS)
def test_the_program_is_the_projection(band):
    """In 50 digits: L and D by determinants, X^{-1} = H on the band, and u = X g, each against exact rationals."""
    H = gram(band)
    g = np.arange(N) - 4.0

    def program(H, g):
        factor = logdet.project(H)
        return factor, logdet.explicit(factor), logdet.inverse_band(factor), logdet.apply(factor, g)

    exact = exact_projection(H)
    factor, X, inverse, u = pl.evaluate(program, H, g)
    assert close(factor.L, -exact.psi)
    assert close(factor.D, [1 / s for s in exact.s])
    assert close(X, exact.band)
    inside = np.concatenate([np.ones((1, N), bool), np.asarray(logdet.within(N, band))])
    assert close(inverse[inside], [Q(x) for x in H[inside]])
    assert close(u, dense(exact.band) @ [Q(x) for x in g])
    assert close(pl.evaluate(logdet.multiply, X, g), dense(exact.band) @ [Q(x) for x in g])


def test_the_worked_example_of_band_two():
    factor = pl.evaluate(logdet.project, np.array(C))
    assert close(factor.D, [Q(14, 43), Q(11, 46), Q(10, 27), Q(3, 10), Q(1, 6)])
    assert close(factor.L[0], [Q(-5, 14), Q(-5, 11), Q(-1, 5), Q(-1, 3), 0])
    assert close(factor.L[1], [Q(-3, 14), Q(4, 11), Q(-1, 10), 0, 0])
    # Algorithm 3 as printed takes the third vertex out; with masked entries in place of a new solution psi_1 is 5/14
    kept = logdet.edges_between_cuts(jnp.arange(5) == 2, 2, "literal")
    assert logdet.edges(kept).tolist() == [[0, 1], [3, 4]]
    reduced = pl.evaluate(lambda H: logdet.project(H, kept), np.array(C))
    assert close(reduced.D, [Q(5, 16), Q(1, 5), Q(1, 3), Q(3, 10), Q(1, 6)])
    assert close(reduced.L[0], [Q(-2, 5), 0, 0, Q(-1, 3), 0])
    assert not reduced.L[1].any()


def test_a_full_band_gives_the_inverse():
    H = gram(4, n=5)
    X = pl.evaluate(lambda H: logdet.explicit(logdet.project(H)), H)
    product = dense(rational(X)) @ np.vectorize(Q, otypes=[object])(dense(H))
    assert np.max(np.abs(product - np.eye(5, dtype=int))) < Q(1, 10**40)


def test_a_band_wider_than_the_chain_is_that_of_the_chain():
    H = gram(4, n=5)
    wide = np.concatenate([H, np.full((2, 5), np.nan)])  # past the end of their diagonals, and ignored
    narrow, same = (logdet.project(jnp.asarray(h, jnp.float32)) for h in (H, wide))
    assert np.array_equal(narrow.D, same.D)
    assert np.array_equal(narrow.L, same.L[:4])
    assert not same.L[4:].any()


@pytest.mark.parametrize("band", BANDS)
def test_what_lies_past_the_end_of_a_diagonal_is_ignored(band):
    H = jnp.asarray(gram(band), jnp.float32)
    outside = jnp.concatenate([jnp.zeros((1, N), bool), ~logdet.within(N, band)])
    spoiled, g = jnp.where(outside, jnp.nan, H), jnp.arange(N) - 4.0

    def everything(H):
        factor, kept = logdet.stabilize(H, 0.01)
        X = logdet.explicit(logdet.project(H))
        return factor, kept, X, logdet.multiply(H, g), logdet.one_norm(H), logdet.objective(factor, H)

    for x, y in zip(*(jax.tree.leaves(everything(h)) for h in (H, spoiled)), strict=True):
        assert np.array_equal(x, y)


def test_schur_complements_do_not_grow_with_the_band():
    """On the same Gram matrix; so do not log det X^{-1} and, with tr(X H) = n, the objective's negative."""
    G = np.random.default_rng(1).integers(-3, 4, (14, N)).astype(float)
    H = np.stack([np.append((G[:, k:] * G[:, : N - k]).sum(0), np.zeros(k)) for k in range(N)])
    previous = None
    for band in range(N):
        s = exact_projection(H[: band + 1]).s
        computed = pl.evaluate(lambda H: logdet.schur_complements(H)[1], H[: band + 1])
        assert close(computed, s)
        assert previous is None or all(a <= b for a, b in zip(s, previous, strict=True))
        previous = s


def test_edges_that_are_not_kept_are_not_looked_at():
    """Each segment between cuts is a problem of its own, bit for bit, whatever its neighbors hold."""
    H = jnp.asarray(gram(3, n=8), jnp.float32)
    kept = logdet.row_edges((4, 2), band=3)
    assert np.array_equal(kept, logdet.block_edges(8, 4, 3))
    edges = jnp.concatenate([jnp.ones((1, 8), bool), kept])
    whole = logdet.project(jnp.where(edges, H, jnp.nan), kept)
    for part in (slice(0, 4), slice(4, 8)):
        alone = logdet.project(H[:, part])
        assert np.array_equal(whole.D[part], alone.D)
        assert np.array_equal(whole.L[:, part], alone.L)
    broken = logdet.project(H.at[0, 5].set(jnp.nan), kept)
    assert np.array_equal(broken.D[:4], whole.D[:4])
    assert np.isnan(broken.D[5])


# Graphs


def test_a_mask_past_the_end_links_nothing():
    H = jnp.array([[4.0, 5.0, 3.0], [2.0, 1.0, 7.0]])
    everything = jnp.ones((1, 3), bool)
    assert np.array_equal(logdet.project(H, everything).D, logdet.project(H).D)
    assert not logdet.cut(H, everything)[1, 2]


def test_graphs_without_regressions_are_refused():
    kept = jnp.array([[True, False, False], [True, False, False]])
    with pytest.raises(ValueError, match="links vertex 0 to 1 and to 2, but not these to each other"):
        logdet.project(jnp.array([[4.0, 5.0, 3.0], [2.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), kept)


def test_cut_and_stabilized_is_stabilized_and_cut():
    H = jnp.asarray(near_singular("bfloat16", 2)[0])
    rows = logdet.row_edges((5, 1), band=2) & logdet.edges_between_cuts(jnp.arange(5) == 2, 2)
    factor, kept = logdet.stabilize(logdet.cut(H, rows), 2.0**-7)
    again = logdet.project(H, kept & rows)
    np.testing.assert_allclose(factor.D, again.D, rtol=2.0**-16)  # contracted or not, over pivots above 2^-7


def test_kept_windows_of_a_band_may_be_indefinite():
    """On a chain they are not at a tolerance of 2u; here D > 0 is all that is left of the guarantee."""
    H = jnp.array([[5.21875, 0.31640625, 0.6796875], [-1.203125, -0.4609375, 0.0], [1.6796875, 0.0, 0.0]])
    factor, kept = pl.emulate(lambda H: logdet.stabilize(H, np.float32(2.0**-7)), "bfloat16")(H)
    assert np.array_equal(kept, logdet.within(3, 2))
    assert np.all(np.asarray(factor.D) > 0)
    assert exact_projection(H, kept).s[0] < 0


def test_a_negative_neighbor_fails_a_vertex_on_every_band():
    for band in (1, 2):
        H = jnp.array([[1.0, -1.0, 1.0], [0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])[: band + 1]
        assert not logdet.stabilize(H, 0.0)[1][0, 0]


def test_integers_are_refused():
    with pytest.raises(ValueError, match="dtype int32"):
        logdet.project(jnp.array([[4, 5], [1, 0]]))
    with pytest.raises(ValueError, match="blocks of 0"):
        logdet.block_edges(5, 0, 2)


def test_cuts_are_those_of_the_definition():
    rng = np.random.default_rng(2)
    for band in (1, 2, 3, 6):
        cuts = rng.random(7) < 0.3
        for rule in ("one_sided", "literal"):
            kept = np.asarray(logdet.edges_between_cuts(jnp.asarray(cuts), band, rule))
            for k in range(1, band + 1):
                for j in range(7):
                    last = j + k + (rule == "literal")
                    assert kept[k - 1, j] == (j + k < 7 and not cuts[j:last].any()), (band, rule, j, k)


def test_the_reduced_graph_of_a_mask_is_checked():
    with pytest.raises(ValueError, match=r"needs a mask of shape \(2, 5\)"):
        logdet.project(jnp.array(C), jnp.ones((1, 5), bool))
    with pytest.raises(ValueError, match="unknown rule"):
        logdet.iterate(jnp.array(C), 0.0, rule="both")
    with pytest.raises(ValueError, match="-1 passes given"):
        logdet.iterate(jnp.array(C), 0.0, passes=-1)
    with pytest.raises(ValueError, match="unknown form 'printed'"):
        logdet.iterate(jnp.array(C), 0.0, form="printed")
    with pytest.raises(ValueError, match="tolerance nan given"):
        logdet.iterate(jnp.array(C), np.nan)


# Algorithm 3

FORMATS = ("bfloat16", "float16")
CASES = 400

# Found by searching chains of small integers, stored in bfloat16 (the first two) and float16: after one pass of the
# algorithm as printed, with rule and tolerance (in u) as given, a vertex of the smaller problem fails.
NOT_ENOUGH = {
    "bfloat16": [
        (
            [[5.0, 10.0, 53.0, 20.0, 13.0], [-5.0, 23.0, -22.0, 2.0, 0.0], [-12.0, -10.0, 17.0, 0.0, 0.0]],
            "one_sided",
            0,
        ),
        (
            [[36.0, 49.25, 58.25, 52.25, 36.0], [42.0, 49.0, 54.0, 36.0, 0.0], [42.0, 42.0, 42.0, 0.0, 0.0]],
            "literal",
            2,
        ),
    ],
    "float16": [
        ([[4.0, 34.0, 65.0, 4.0, 10.0], [6.0, 47.0, -8.0, -2.0, 0.0], [8, -6, -17, 0, 0]], "one_sided", 0),
    ],
}


def near_singular(format: str, band: int, n: int = 5) -> np.ndarray:
    """Chains of few gradients with their diagonals changed by a few units: windows that are singular or indefinite."""
    rng, u = np.random.default_rng(band), pl.formats.named(format).unit_roundoff
    G = rng.integers(-8, 9, (CASES, band, n)).astype(float)
    gram = np.einsum("cti,ctj->cij", G, G)
    H = np.zeros((CASES, band + 1, n))
    for k in range(band + 1):
        H[:, k, : n - k] = np.diagonal(gram, k, 1, 2)
    H[:, 0] = np.maximum(H[:, 0] * (1 + 4 * u * (rng.random((CASES, 1)) - 0.2)), 1)
    return np.asarray(pl.round_to(H.astype(np.float32), format))


@pytest.mark.parametrize(
    ("format", "rule"),
    [
        pytest.param(format, rule, marks=[pytest.mark.slow] * (format == "float16"))
        for format in FORMATS
        for rule in ("one_sided", "literal")
    ],
)
def test_judged_by_pivots_one_pass_is_the_fixed_point(format, rule):
    """Every s exceeds the tolerance, as recomputed on the reduced graph, and every D is positive and finite."""
    for band in (2, 3):
        H, threshold = near_singular(format, band), np.float32(2 * pl.formats.named(format).unit_roundoff)

        def program(H, threshold=threshold):
            result = logdet.iterate(H, threshold, rule=rule)
            return result, logdet.schur_complements(H, result.kept)[1], threshold * H[0]

        result, s, least = (jax.tree.map(np.asarray, x) for x in jax.vmap(pl.emulate(program, format))(H))
        assert result.stable.all()
        assert np.all(s > least)
        assert np.all(np.isfinite(result.factor.D) & (result.factor.D > 0))
        whole = np.all(result.kept == np.asarray(logdet.within(H.shape[2], band)), axis=(1, 2))
        assert np.array_equal(result.passes, np.where(whole, 0, 1))
        assert 0.05 < whole.mean() < 0.95


@pytest.mark.parametrize("format", FORMATS)
def test_judged_as_printed_one_pass_is_not_enough(format):
    for rows, rule, tolerance in NOT_ENOUGH[format]:
        H = jnp.array(rows)
        gamma = np.float32(tolerance * pl.formats.named(format).unit_roundoff)

        def program(H, passes, form, rule=rule, gamma=gamma):
            return logdet.iterate(H, gamma, rule=rule, passes=passes, form=form)

        once, fixed, judged = (
            pl.emulate(lambda H, p=passes, f=form: program(H, p, f), format)(H)
            for passes, form in ((1, "coefficients"), (None, "coefficients"), (None, "pivots"))
        )
        assert not once.stable
        assert fixed.stable
        assert fixed.passes == 2
        assert judged.stable
        assert judged.passes == 1
        assert np.all(np.asarray(fixed.kept) <= np.asarray(once.kept))


def test_in_exact_arithmetic_one_pass_is_enough():
    """For positive semidefinite windows: what is solved again has larger s, vertex by vertex."""
    for seed in range(6):
        H = gram(2, steps=2 + seed % 3, seed=seed)
        first = exact_projection(H)
        failed = np.array([s is None or s <= 0 for s in first.s])
        kept = np.asarray(logdet.edges_between_cuts(jnp.asarray(failed), 2))
        again = exact_projection(H, kept)
        for s, before, diagonal in zip(again.s, first.s, H[0], strict=True):
            assert s > 0 or diagonal == 0
            assert before is None or s >= before


def test_passes_are_counted_and_bounded():
    H = jnp.array(NOT_ENOUGH["bfloat16"][0][0])
    plain = logdet.iterate(H, 0.0, passes=0)
    assert plain.passes == 0
    assert np.array_equal(plain.kept, logdet.within(5, 2))
    for tolerance in (0.0, 0.5):
        counts = [int(logdet.iterate(H, tolerance, passes=p).passes) for p in (0, 1, 2, None)]
        assert counts == sorted(counts)
        assert counts[1] <= 1
    assert not logdet.iterate(H, 0.5, passes=0).stable


@pytest.mark.parametrize(
    ("band", "in_chunks"), [(1, False), (2, False), *(pytest.param(b, True, marks=pytest.mark.slow) for b in (1, 2))]
)
def test_a_traced_bound_is_that_of_a_static_one(band, in_chunks):
    """One program for all bounds gives the bits of those that are compiled for one."""
    H, bounds = jnp.array(NOT_ENOUGH["bfloat16"][0][0])[: band + 1], (0, 2)

    def emulated(f):
        return pl.emulate(f, "bfloat16")

    def program(H, passes):
        if in_chunks:
            options = {"passes": passes, "form": "coefficients", "chunk": 1, "through": emulated}
            return logdet.stabilized_in_chunks(H, H[0], 0.0, **options)
        return emulated(lambda H: logdet.iterate(H, 0.0, passes=passes, form="coefficients"))(H)

    static, traced = jax.jit(lambda H: [program(H, bound) for bound in bounds])(H), jax.jit(program)
    for bound, want in zip(bounds, static, strict=True):
        for a, b in zip(jax.tree.leaves(traced(H, jnp.int32(bound))), jax.tree.leaves(want), strict=True):
            assert a.dtype == b.dtype
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert traced._cache_size() == 1
    assert [int(result.passes) for result in static] == [0, band]


def test_chains_by_selection_equal_chains_solved_again():
    """The form for chains drops by selection; solving on the reduced graph gives the same bits."""
    H = jnp.asarray(near_singular("bfloat16", 1))
    for rule in ("one_sided", "literal"):
        factor, kept = jax.vmap(lambda h, rule=rule: logdet.stabilize(h, 2.0**-7, rule=rule))(H)
        again = jax.vmap(logdet.project)(H, kept)
        assert np.array_equal(factor.L, again.L)
        assert np.array_equal(factor.D, again.D)
        assert not np.asarray(kept).all()


def test_the_default_tolerance_is_twice_the_unit_roundoff_of_the_dtype():
    assert logdet.default_tolerance(jnp.float32) == 2.0**-23
    H = jnp.array([[1.0, 1.0], [1.0 - 2.0**-9, 0.0]])
    assert logdet.stabilize(H)[1].tolist() == [[True, False]]
    assert logdet.stabilize(H.astype(jnp.bfloat16))[1].tolist() == [[False, False]]


def test_layers_are_batched():
    H = jnp.asarray(near_singular("bfloat16", 2)[:5])
    g = jnp.ones((5, H.shape[2]))

    def program(H, g):
        factor, kept = logdet.stabilize(H, 2.0**-7)
        return logdet.apply(factor, g), kept

    u, kept = jax.jit(jax.vmap(program))(H, g)
    for i in range(5):
        v, mask = jax.jit(program)(H[i], g[i])
        assert np.array_equal(kept[i], mask)
        np.testing.assert_allclose(u[i], v, rtol=2.0**-16)  # contracted or not: 2^-24 over a pivot above 2^-7, twice
