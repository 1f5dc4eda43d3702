"""The condition numbers of the LogDet projection, proved again from derivatives in exact rationals."""

from fractions import Fraction as Q

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precond_lab import gallery
from precond_lab.diagnosis.condition import condition_number
from precond_lab.diagnosis.logdet_condition import direction_condition, pivots, projection_condition
from precond_lab.preconditioners import logdet

U64 = 2.0**-53


class Dual:
    """A rational with its derivatives by every entry of H: exact differentiation of rational formulas."""

    def __init__(self, value, gradient):
        self.value, self.gradient = value, gradient

    def combine(self, other, value, by_self, by_other):
        keys = self.gradient.keys() | other.gradient.keys()
        return Dual(
            value,
            {k: by_self * self.gradient.get(k, 0) + by_other * other.gradient.get(k, 0) for k in keys},
        )

    def __add__(self, other):
        return self.combine(other, self.value + other.value, 1, 1)

    def __sub__(self, other):
        return self.combine(other, self.value - other.value, 1, -1)

    def __mul__(self, other):
        return self.combine(other, self.value * other.value, other.value, self.value)

    def __truediv__(self, other):
        quotient = self.value / other.value
        return self.combine(other, quotient, 1 / other.value, -quotient / other.value)


def projection_with_derivatives(H):
    """Entries (i, j) of X, and the Schur complements, of a chain, as duals in the stored entries of H."""
    n = H.shape[1]
    h = [[Dual(Q(float(H[k, i])), {(k, i): Q(1)}) for i in range(n)] for k in (0, 1)]
    one = Dual(Q(1), {})
    psi = [h[1][i] / h[0][i + 1] for i in range(n - 1)]
    s = [h[0][i] - psi[i] * h[1][i] for i in range(n - 1)] + [h[0][n - 1]]
    X = {(i, i): one / s[i] + (psi[i - 1] * psi[i - 1] / s[i - 1] if i else Dual(Q(0), {})) for i in range(n)}
    X |= {(i + 1, i): psi[i] / s[i] for i in range(n - 1)}  # up to its sign
    return X, s


def supremum(x, H, rows):
    """The first-order supremum of |dx| / (eps |x|) over |dH| <= eps |H| in these rows of the band: a sum."""
    total = sum(abs(d) * abs(Q(float(H[k, i]))) for (k, i), d in x.gradient.items() if k in rows)
    return total / abs(x.value)


chains = st.builds(
    gallery.chain_by_condition,
    st.integers(2, 7),
    condition=st.floats(1.5, 45).map(lambda k: 2.0**k),
    seed=st.integers(0, 2**32 - 1),
)


@given(chains)
@settings(max_examples=40, deadline=None)
def test_condition_numbers_are_the_suprema(H):
    """All three are exact, and attained below the diagonal; the paper's bound is the first plus one."""
    condition = projection_condition(H)
    X, s = projection_with_derivatives(H)
    for rows, claimed in (((1,), condition.off_diagonal), ((0, 1), condition.all_entries)):
        suprema = {edge: supremum(x, H, rows) for edge, x in X.items() if x.value}
        largest = max(suprema.values())
        # float64 with no cancellation: pivot, quotient and numerator, a few roundings each.
        assert float(largest) == pytest.approx(claimed, rel=1e-15)
        assert largest == max(value for (i, j), value in suprema.items() if i != j)
        assert largest == suprema[condition.worst_edge + 1, condition.worst_edge]
        if rows == (1,):
            assert float(largest + 1) == pytest.approx(condition.bound, rel=1e-15)
            assert float(largest) < condition.bound
    assert float(max(supremum(x, H, (0, 1)) for x in s)) == pytest.approx(condition.schur, rel=1e-15)
    exact = min(x.value / Q(float(d)) for x, d in zip(s, H[0], strict=True))
    assert float(exact) == pytest.approx(condition.smallest_pivot, rel=4 * U64)


@pytest.mark.parametrize(
    ("H", "bound", "off_diagonal", "all_entries", "edge"),
    [
        ([[2.0, 3.0, 1.0], [1.0, -1.0, 0.0]], 3, 2, 5, 1),
        ([[4.0, 5.0, 9.0, 8.0], [2.0, -3.0, 6.0, 0.0]], 4, 3, 7, 2),
        ([[1.7890625, 1.59375, 2.0], [1.6875, 0.5, 0.0]], 1557.2, 1556.2, 3113.4, 0),
    ],
    ids=["A", "B", "N1"],
)
def test_worked_examples(H, bound, off_diagonal, all_entries, edge):
    condition = projection_condition(H)
    assert condition[:3] == pytest.approx((bound, off_diagonal, all_entries), rel=4 * U64)
    assert condition.worst_edge == edge
    assert condition.edges == len(H[0]) - 1
    assert condition.smallest_pivot == pytest.approx(2 / bound, rel=4 * U64)


@given(st.sampled_from([8, 11, 24]), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_pivots_of_narrow_formats_do_not_cancel(precision, seed):
    """With at most 26 bits the products are exact: one subtraction and one division are all that rounds."""
    for first, second, edge in gallery.near_singular_triples(4, precision=precision, seed=seed):
        exact = 1 - Q(edge) ** 2 / (Q(first) * Q(second))
        (computed,) = pivots([[first, second], [edge, 0.0]])
        assert abs(Q(computed) - exact) <= Q(3 * U64) * exact


@given(st.floats(2.0**-4, 16.0), st.floats(2.0**-4, 16.0), st.integers(1, 100))
@settings(max_examples=100, deadline=None)
def test_pivots_of_wide_formats_are_compensated(first, second, steps):
    edge = np.sqrt(first) * np.sqrt(second)
    for _ in range(steps):
        edge = np.nextafter(edge, 0)
    exact = 1 - Q(edge) ** 2 / (Q(first) * Q(second))
    (computed,) = pivots([[first, second], [edge, 0.0]])
    assert abs(Q(computed) - exact) <= Q(3 * U64) * abs(exact) + Q(2) ** -103


@given(chains, st.integers(-300, 300))
@settings(max_examples=30, deadline=None)
def test_condition_is_scale_free(H, k):
    S = 4.0 ** np.arange(H.shape[1]) * 2.0**k
    scaled = np.stack([H[0] * S * S, np.append(H[1, :-1] * S[:-1] * S[1:], 0.0)])
    assert projection_condition(scaled) == projection_condition(H)


@pytest.mark.parametrize(
    "H",
    [
        [[1.0, 1.0, 1.0], [0.5, 1.0, 0.0]],
        [[1.0, 1.0, 1.0], [0.5, -2.0, 0.0]],
        [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]],
        [[1.0, -1.0, 1.0], [0.5, 0.5, 0.0]],
        [[1.0, 1.0, 1.0], [0.5, np.nan, 0.0]],
        [[1.0, 1.0, np.inf], [0.5, 0.5, 0.0]],
        [[1.0, 1.0, 0.0]],
    ],
)
def test_no_projection_is_infinitely_ill_conditioned(H):
    condition = projection_condition(H)
    assert condition[:4] == (np.inf,) * 4
    assert not condition.smallest_pivot > 0


def test_reduced_graph_counts_its_own_edges():
    H = [[1.0, 1.0, 1.0, 1.0], [0.5, 1.0, np.nan, 0.0]]
    condition = projection_condition(H, kept=[[True, False, False, False]])
    assert (condition.worst_edge, condition.edges) == (0, 1)
    assert condition.bound == 2 / 0.75
    none = projection_condition(H, kept=np.zeros((1, 4), bool))
    assert none == (1.0, 0.0, 1.0, 1.0, 1.0, None, 0)
    assert projection_condition([[1.0, 2.0]]) == none


@pytest.mark.parametrize("n", [2, 5])
def test_a_zero_off_diagonal_is_no_edge(n):
    """X_{i+1,i} is zero whatever the relative perturbation: the numeric componentwise condition is that of 1 / H_ii."""
    H = np.stack([np.arange(1.0, n + 1), np.zeros(n)])
    assert projection_condition(H) == projection_condition(H[:1]) == (1.0, 0.0, 1.0, 1.0, 1.0, None, 0)
    H[1, : n - 2 : 2] = 0.5

    def band(H):
        return logdet.explicit(logdet.project(H))

    assert condition_number(band, H, kind="componentwise") == pytest.approx(
        projection_condition(H).all_entries, rel=1e-14
    )
    assert projection_condition(H).edges == np.count_nonzero(H[1])
    every = np.ones((1, n), bool)
    assert projection_condition(H, every) == projection_condition(H)


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="supported are"):
        projection_condition(np.ones((3, 4)))
    with pytest.raises(ValueError, match="needs a mask"):
        projection_condition(np.ones((2, 4)), kept=np.ones((1, 3), bool))


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("every", [True, False])
def test_the_condition_of_the_direction_is_that_of_its_jacobian(n, every):
    """The closed form against JAX's derivative of the program, entry by entry; both in float64."""
    rng = np.random.default_rng(n)
    H = gallery.chain(n, beta=rng.uniform(-0.99, 0.99, n - 1), diagonal=rng.uniform(0.5, 4, n))
    g = rng.normal(size=n)
    kept = (np.ones((1, n), bool) if every else rng.random((1, n)) < 0.5) & (np.arange(n) < n - 1)

    def direction(H, g):
        return logdet.apply(logdet.project(logdet.cut(H, jnp.asarray(kept))), g)

    with jax.enable_x64(True):
        by_H, by_g = jax.jacfwd(direction, (0, 1))(jnp.asarray(H), jnp.asarray(g))
        u = np.asarray(direction(H, g))
    change = (np.abs(by_H) * np.abs(H)).sum((1, 2)) + (np.abs(by_g) * np.abs(g)).sum(1)
    expected = np.linalg.norm(change) / np.linalg.norm(u)
    # each entry of the Jacobian is a short rational function, of condition below 4 / (1 - beta^2) < 250
    assert direction_condition(H, g, kept) == pytest.approx(expected, rel=250 * 100 * 2.0**-53)


def test_the_condition_of_the_direction_is_infinite_where_there_is_none():
    singular = [[1.0, 1.0], [1.0, 0.0]]
    assert direction_condition(singular, [1.0, 2.0]) == np.inf
    assert direction_condition(singular, [1.0, 2.0], [[False, False]]) == 2.0  # u_i = g_i / H_ii
    assert direction_condition([[0.0, 1.0], [0.0, 0.0]], [1.0, 2.0]) == np.inf
    with pytest.raises(ValueError, match="needed"):
        direction_condition(singular, [1.0])
