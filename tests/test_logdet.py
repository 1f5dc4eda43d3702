"""The LogDet program: worked examples, laws of the projection, statistics, damping, chains."""

from collections.abc import Callable
from fractions import Fraction as Q
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab import gallery
from precond_lab.diagnosis.logdet_condition import pivots
from precond_lab.preconditioners import logdet
from precond_lab.truth.logdet import direction, logdet_projection

U64 = 2.0**-53


def in_float64(function: Callable, *arguments: Any, **options: Any) -> Any:
    """The function on float64 arrays, its result as NumPy arrays."""
    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.asarray, arguments)
        return jax.tree.map(np.asarray, function(*arguments, **options))


class Example(NamedTuple):
    H: list
    s: list[Q]
    L: list[Q]
    X_diagonal: list[Q]
    X_edge: list[Q]
    g: list[float]
    u: list[Q]
    objective: float


A = Example(
    H=[[2.0, 3.0, 1.0], [1.0, -1.0, 0.0]],
    s=[Q(5, 3), Q(2), Q(1)],
    L=[Q(-1, 3), Q(1)],
    X_diagonal=[Q(3, 5), Q(17, 30), Q(3, 2)],
    X_edge=[Q(-1, 5), Q(1, 2)],
    g=[1.0, -2.0, 3.0],
    u=[Q(1), Q(1, 6), Q(7, 2)],
    objective=4.203972804325936,
)
B = Example(
    H=[[4.0, 5.0, 9.0, 8.0], [2.0, -3.0, 6.0, 0.0]],
    s=[Q(16, 5), Q(4), Q(9, 2), Q(8)],
    L=[Q(-2, 5), Q(1, 3), Q(-3, 4)],
    X_diagonal=[Q(5, 16), Q(3, 10), Q(1, 4), Q(1, 4)],
    X_edge=[Q(-1, 8), Q(1, 12), Q(-1, 6)],
    g=[1.0, 1.0, -1.0, 2.0],
    u=[Q(3, 16), Q(11, 120), Q(-1, 2), Q(2, 3)],
    objective=10.132964109381682,
)
EXAMPLES = pytest.mark.parametrize("example", [A, B], ids=["A", "B"])


def relative_errors(computed: np.ndarray, exact: list[Q]) -> list[Q]:
    return [abs(Q(float(x)) - y) / abs(y) for x, y in zip(computed, exact, strict=True)]


@EXAMPLES
def test_worked_examples_to_a_few_units(example):
    # One rounding of psi, s, D each, none of which cancels to less than half here: 8 u covers each figure.
    factor = in_float64(logdet.project, example.H)
    X = in_float64(logdet.explicit, factor)
    u = in_float64(logdet.apply, factor, example.g)
    assert max(relative_errors(factor.L[0, :-1], example.L)) <= 2 * U64
    assert max(relative_errors(factor.D, [1 / s for s in example.s])) <= 4 * U64
    assert max(relative_errors(X[0], example.X_diagonal)) <= 8 * U64
    assert max(relative_errors(X[1, :-1], example.X_edge)) <= 8 * U64
    assert max(relative_errors(u, example.u)) <= 16 * U64
    assert float(in_float64(logdet.objective, factor, example.H)) == pytest.approx(example.objective, rel=16 * U64)
    product = in_float64(logdet.multiply, X, example.g)
    assert max(relative_errors(product, example.u)) <= 32 * U64


@EXAMPLES
def test_worked_examples_satisfy_the_optimality_condition(example):
    n = len(example.s)
    X = mpmath.matrix(n)
    for i in range(n):
        X[i, i] = mpmath.mpf(example.X_diagonal[i].numerator) / example.X_diagonal[i].denominator
    for i, x in enumerate(example.X_edge):
        X[i, i + 1] = X[i + 1, i] = mpmath.mpf(x.numerator) / x.denominator
    inverse = X**-1
    for k in (0, 1):
        for i in range(n - k):
            assert abs(inverse[i + k, i] - example.H[k][i]) < 1e-14
    trace = sum(x * Q(h) for x, h in zip(example.X_diagonal, example.H[0], strict=True))
    trace += 2 * sum(x * Q(h) for x, h in zip(example.X_edge, example.H[1], strict=False))
    assert trace == n


def test_a_dyadic_chain_is_exact():
    # Every intermediate is a dyadic number of few bits, so float32 makes no error at all.
    H = jnp.array([[2.0, 4.0, 1.0], [2.0, 0.0, 0.0]])
    factor = logdet.project(H)
    assert factor.L.tolist() == [[-0.5, 0.0, 0.0]]
    assert factor.D.tolist() == [1.0, 0.25, 1.0]
    assert float(logdet.objective(factor, H)) == pytest.approx(3 + np.log(4.0), rel=2**-22)


def test_diagonal_band():
    H = jnp.array([[2.0, 4.0, 0.5]])
    factor = logdet.project(H)
    assert factor.L.shape == (0, 3)
    assert logdet.apply(factor, jnp.ones(3)).tolist() == [0.5, 0.25, 2.0]
    stabilized, kept = logdet.stabilize(H, 0.0)
    assert kept.shape == (0, 3)
    assert stabilized.D.tolist() == factor.D.tolist()
    assert logdet.explicit(factor).tolist() == [[0.5, 0.25, 2.0]]
    assert logdet.multiply(logdet.explicit(factor), jnp.ones(3)).tolist() == [0.5, 0.25, 2.0]
    assert float(logdet.objective(factor, H)) == pytest.approx(3 + np.log(4.0), rel=2**-22)


@pytest.mark.parametrize("n", [1, 2])
def test_shortest_chains(n):
    H = jnp.stack([jnp.full(n, 2.0), jnp.ones(n)])  # the last entry of row 1 lies outside and is ignored
    factor, kept = logdet.stabilize(H, 0.0)
    assert factor.D.tolist() == ([0.5] if n == 1 else [1 / np.float32(1.5), 0.5])
    assert not kept[0, -1]
    assert logdet.apply(factor, jnp.ones(n)).shape == (n,)


@pytest.mark.parametrize("function", [logdet.project, logdet.one_norm, lambda H: logdet.stabilize(H, 0.0)])
@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 0), (2, 3, 4)])
def test_what_is_no_band_is_refused(function, shape):
    with pytest.raises(ValueError, match=r"wanted is \[b\+1, n\]"):
        function(jnp.ones(shape))


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="number of subdiagonals"):
        logdet.initialize(3, band=-1)
    with pytest.raises(ValueError, match="unknown rule"):
        logdet.stabilize(jnp.ones((2, 3)), 0.0, rule="both")
    with pytest.raises(ValueError, match="needs a mask"):
        logdet.cut(jnp.ones((2, 3)), jnp.ones((1, 2), bool))
    with pytest.raises(ValueError, match="needs a mask"):
        logdet.cut(jnp.ones((2, 3)), [[True, False]])
    for band in (0, 1):
        factor = logdet.project(jnp.array([[2.0, 2.0, 2.0], [1.0, 1.0, 0.0]])[: band + 1])
        for wrong in ([1.0, 2.0], [1.0], 1.0, [[1.0, 2.0, 3.0]]):
            with pytest.raises(ValueError, match=r"g of shape .* D of shape \(3,\)"):
                logdet.apply(factor, jnp.array(wrong))


# Laws

chains = st.builds(
    gallery.chain_by_condition,
    st.sampled_from([2, 9]),  # few shapes: every new one is compiled
    condition=st.floats(1, 40).map(lambda k: 2.0**k),
    seed=st.integers(0, 2**32 - 1),
)


@given(chains, st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_scaling_by_powers_of_two_is_exact(H, seed):
    """H -> S H S gives X -> S^{-1} X S^{-1}."""
    S = 2.0 ** np.random.default_rng(seed).integers(-8, 9, H.shape[1])
    scaled = np.stack([H[0] * S * S, np.append(H[1, :-1] * S[:-1] * S[1:], 0.0)])
    factor, of_scaled = in_float64(logdet.project, H), in_float64(logdet.project, scaled)
    X, Y = in_float64(logdet.explicit, factor), in_float64(logdet.explicit, of_scaled)
    assert np.array_equal(Y[0], X[0] / (S * S))
    assert np.array_equal(Y[1, :-1], X[1, :-1] / (S[:-1] * S[1:]))
    g = np.random.default_rng(seed).standard_normal(H.shape[1])
    assert np.array_equal(in_float64(logdet.apply, of_scaled, g), in_float64(logdet.apply, factor, g / S) / S)


@given(chains)
@settings(max_examples=20, deadline=None)
def test_forward_error_is_bounded_by_the_condition(H):
    """The off-diagonal of X is off by (kappa + 1) u at most, with kappa = 2 / (1 - beta^2) of its own edge.

    To first order s is off by (1 + beta^2) / (1 - beta^2) u = (kappa - 1) u, psi and 1 / s by another u each.
    """
    factor = in_float64(logdet.project, H)
    X = logdet_projection(H, 30, method="elimination").band
    kappa = 2 / pivots(H)
    for i, k in enumerate(kappa):
        # X_{i+1,i} = L_i D_i: psi and the reciprocal add one rounding each to those of s.
        with mpmath.workdps(40):
            computed = mpmath.mpf(float(factor.L[0, i])) * mpmath.mpf(float(factor.D[i]))
            assert abs(computed - X[1, i]) <= (k + 1) * U64 * abs(X[1, i]) * (1 + 2 * k * U64)


@given(chains, st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_direction_error_is_bounded_by_the_condition(H, seed):
    """|u - X g| <= c kappa u |L| D |L^T| |g|: errors of s and psi, then four roundings in the product."""
    g = np.random.default_rng(seed).standard_normal(H.shape[1])
    factor = in_float64(logdet.project, H)
    u = in_float64(logdet.apply, factor, g)
    exact = direction(H, g, 40)
    magnitude = in_float64(logdet.apply, logdet.Factor(np.abs(factor.L), np.abs(factor.D)), np.abs(g))
    kappa = np.max(2 / pivots(H))
    for x, y, scale in zip(u, exact, magnitude, strict=True):
        assert abs(mpmath.mpf(float(x)) - y) <= (kappa + 8) * U64 * scale * (1 + 4 * kappa * U64)


@given(chains)
@settings(max_examples=15, deadline=None)
def test_reversing_the_chain_leaves_X_unchanged(H):
    reverse = np.stack([H[0, ::-1], np.append(H[1, -2::-1], 0.0)])
    X, Y = (logdet_projection(matrix, 40, method="elimination").band for matrix in (H, reverse))
    for x, y in ((X[0], Y[0, ::-1]), (X[1, :-1], Y[1, -2::-1])):
        assert all(abs(x - y) <= mpmath.mpf(10) ** -38 * abs(x))


def test_jit_and_vmap_are_eager():
    def program(H: jax.Array, g: jax.Array, tolerance: jax.Array) -> tuple:
        factor, kept = logdet.stabilize(H, tolerance, rule="literal")
        return logdet.apply(factor, g), kept

    # psi and s are exact here, whether or not the compiler contracts them to a fused multiply-add; what
    # follows has a few roundings, of small numbers.
    H = jnp.stack([jnp.asarray(gallery.chain(9, beta=0.5, diagonal=4.0, seed=s), jnp.float32) for s in range(5)])
    H = H.at[:, 1, 3].set(4.0).at[2, 1, 5].set(jnp.nan)
    g = jnp.round(8 * jax.random.normal(jax.random.key(0), (5, 9)))
    tolerance = jnp.array(0.0625)
    eager = [program(h, v, tolerance) for h, v in zip(H, g, strict=True)]
    for mapped in (jax.vmap(program, (0, 0, None)), jax.jit(jax.vmap(program, (0, 0, None)))):
        u, kept = mapped(H, g, tolerance)
        assert np.array_equal(kept, np.stack([k for _, k in eager]))
        np.testing.assert_allclose(u, np.stack([v for v, _ in eager]), rtol=4 * 2**-24, atol=4 * 2**-24)
    u, kept = jax.jit(program)(H[0], g[0], tolerance)
    assert np.array_equal(kept, eager[0][1])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_dtype_is_kept(dtype):
    g = jnp.ones(4, dtype)
    beta2 = jnp.asarray(0.5, dtype)
    statistics = logdet.average(logdet.initialize(4, epsilon=jnp.zeros((), dtype)), g, beta2)
    statistics = logdet.add(statistics, g, jnp.asarray(2, dtype))
    H = logdet.damp(logdet.corrected(statistics), beta2)
    factor, _ = logdet.stabilize(H, beta2)
    outputs = (
        statistics,
        H,
        factor,
        logdet.apply(factor, g),
        logdet.explicit(factor),
        logdet.objective(factor, H),
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(outputs)} == {dtype}


def test_programs_use_no_opaque_primitive():
    """Everything is elementwise arithmetic, comparison, selection, or the moving of data."""
    plain = {
        "slice",
        "squeeze",
        "reshape",
        "transpose",
        "concatenate",
        "broadcast_in_dim",
        "select_n",
        "copy",
    }
    plain |= {"pad", "stack", "iota", "convert_element_type", "not", "reduce_or"}
    plain |= {"add", "sub", "mul", "div", "neg", "abs", "max", "eq", "ge", "gt", "lt", "and", "or", "reduce_max"}

    def program(H, g, weight, beta2, tolerance, kernel):
        H = logdet.damp(logdet.corrected(logdet.average(logdet.Statistics(H, weight), g, beta2)), beta2, tolerance)
        factor, kept = logdet.stabilize(logdet.cut(H, kept=H[1:] > 0), tolerance, rule="literal")
        naive = logdet.multiply(logdet.explicit(logdet.project(H)), logdet.chain(kernel))
        return logdet.unchain(logdet.apply(factor, g) + naive, kernel.shape), kept

    scalar = jnp.ones(())
    jaxpr = jax.make_jaxpr(program)(jnp.ones((2, 6)), jnp.ones(6), scalar, scalar, scalar, jnp.ones((2, 3)))
    seen = set()

    def walk(inner):
        for equation in inner.eqns:
            nested = [p for p in equation.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
            if not nested:
                seen.add(equation.primitive.name)
            for p in nested:
                walk(getattr(p, "jaxpr", p))

    walk(jaxpr.jaxpr)
    assert seen <= plain


# Statistics and damping


def test_sum_and_average_of_integers_are_exact():
    G = jnp.array([[1.0, 2.0, -1.0], [3.0, 0.0, 2.0]])
    total = logdet.initialize(3, epsilon=jnp.array(0.5))
    for g, weight in zip(G, (1.0, 2.0), strict=True):
        total = logdet.add(total, g, jnp.array(weight))
    assert total.H.tolist() == [[6.0, 4.5, 3.5], [2.0, -2.0, 0.0]]
    assert float(total.weight) == 1.5
    mean = logdet.initialize(3)
    for g in G:
        mean = logdet.average(mean, g, jnp.array(0.5))
    assert mean.H.tolist() == [[4.75, 1.0, 2.25], [0.5, -0.5, 0.0]]
    assert float(mean.weight) == 0.75  # 1 - beta2^2


def test_bias_correction_equals_the_power():
    G = np.random.default_rng(7).standard_normal((20, 5))
    beta2 = 0.97
    with jax.enable_x64(True):
        statistics = logdet.initialize(5, band=0)
        for g in G:
            statistics = logdet.average(statistics, jnp.asarray(g), jnp.asarray(beta2))
        corrected = np.asarray(logdet.corrected(statistics)[0])
    weights = beta2 ** np.arange(20)[::-1] * (1 - beta2)
    # Both weights are sums of 20 products of at most 20 roundings.
    np.testing.assert_allclose(corrected, weights @ G**2 / (1 - beta2**20), rtol=100 * U64)


def test_average_with_a_complement_from_outside():
    """In bfloat16 0.999 is 1: without the complement nothing is learned, with it nothing is forgotten."""
    beta2, g = jnp.asarray(0.999, jnp.bfloat16), jnp.ones(2, jnp.bfloat16)
    start = logdet.initialize(2, epsilon=jnp.zeros((), jnp.bfloat16))
    assert not logdet.average(start, g, beta2).H.any()
    once = logdet.average(start, g, beta2, jnp.asarray(0.001, jnp.bfloat16))
    assert once.H[0, 0] == once.weight == jnp.asarray(0.001, jnp.bfloat16)


def test_one_norm_accumulates():
    H = jnp.array([[1.0, 10.0, 1.0], [3.0, 3.0, 0.0]])
    assert float(logdet.one_norm(H)) == 16.0
    assert logdet.damp(H, jnp.array(0.25))[0].tolist() == [5.0, 14.0, 5.0]
    assert logdet.damp(H, jnp.array(0.0), jnp.array(2.0))[0].tolist() == [3.0, 12.0, 3.0]
    assert logdet.damp_absolute(H, jnp.array(0.5)).tolist() == [[1.5, 10.5, 1.5], [3.0, 3.0, 0.0]]
    assert float(logdet.one_norm(H[:1])) == 10.0


@given(st.sampled_from([1, 9]), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_one_norm_is_that_of_the_matrix(n, seed):
    H = np.round(8 * np.random.default_rng(seed).standard_normal((2, n)))
    dense = np.diag(H[0]) + np.diag(H[1, :-1], 1) + np.diag(H[1, :-1], -1)
    assert float(logdet.one_norm(jnp.asarray(H, jnp.float32))) == np.linalg.norm(dense, 1)


# The chain of a tensor


@pytest.mark.parametrize(
    ("shape", "input_axis"),
    [((3, 4), 0), ((3, 4), 1), ((2, 3, 4, 5), 2), ((2, 3, 4), -1), ((7,), 0), ((), 0)],
)
def test_chain_round_trip(shape, input_axis):
    tensor = jnp.arange(np.prod(shape, dtype=int)).reshape(shape)
    vector = logdet.chain(tensor, input_axis=input_axis)
    assert np.array_equal(logdet.unchain(vector, shape, input_axis=input_axis), tensor)


def test_chain_follows_the_inputs_of_each_unit():
    kernel = jnp.array([[11, 12], [21, 22], [31, 32]])  # [in, out], digit one the input
    assert logdet.chain(kernel).tolist() == [11, 21, 31, 12, 22, 32]
    assert logdet.row_edges(kernel.shape).tolist() == [[True, True, False, True, True, False]]


def test_cut_takes_a_list():
    assert logdet.cut([[2.0, 3.0, 4.0], [1.0, 1.0, 0.0]], [[True, False, False]]).tolist() == [[2, 3, 4], [1, 0, 0]]


def test_cut_rows_are_separate_problems():
    H = jnp.asarray(gallery.chain(6, beta=0.75, seed=5), jnp.float32)
    whole = logdet.project(logdet.cut(H, logdet.row_edges((3, 2))))
    for rows in (slice(0, 3), slice(3, 6)):
        part = logdet.project(H[:, rows])
        assert np.array_equal(whole.D[rows], part.D)
        assert np.array_equal(whole.L[:, rows][:, :-1], part.L[:, :-1])
