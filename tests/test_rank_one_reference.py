"""Forms of the recursion against a slow reference: one number at a time, in the order that each docstring gives."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import precond_lab as pl
from precond_lab.arithmetic.roles import by_role
from precond_lab.preconditioners import rank_one

N, STEPS, BETA = 4, 3, 0.875 + 2.0**-7
PRECISIONS = {"bfloat16": 8, "tfloat32": 11, "float32": 24, "float64": 53}


class Scalar(NamedTuple):
    """Arithmetic of a precision, to nearest even and of unbounded exponent, one operation at a time.

    Operations are computed in binary64 first, which makes no difference up to 24 bits (Figueroa 1995).
    """

    precision: int

    def of(self, x):
        if x == 0:
            return x
        m, e = math.frexp(x)
        return math.ldexp(round(math.ldexp(m, self.precision)), e - self.precision)

    def add(self, x, y):
        return self.of(self.of(x) + self.of(y))

    def sub(self, x, y):
        return self.of(self.of(x) - self.of(y))

    def mul(self, x, y):
        return self.of(self.of(x) * self.of(y))

    def div(self, x, y):
        return self.of(self.of(x) / self.of(y))

    def sqrt(self, x):
        return self.of(math.sqrt(self.of(x)))

    def dot(self, x, y):
        total = self.mul(x[0], y[0])
        for a, b in zip(x[1:], y[1:], strict=True):
            total = self.add(total, self.mul(a, b))
        return total


def matrix(n, element):
    return [[element(i, j) for j in range(n)] for i in range(n)]


def transposed(A):
    return [list(row) for row in zip(*A, strict=True)]


def mirrored(A):
    return matrix(len(A), lambda i, j: A[max(i, j)][min(i, j)])


def total(s, v, w, beta, alpha):
    return s.add(s.div(beta, alpha), s.dot(v, w))


def gain(a, s, state, v, beta, alpha):
    (P,) = state
    w = [a.dot(row, v) for row in P]
    d = total(s, v, w, beta, alpha)
    k = [s.div(x, d) for x in w]
    return (matrix(len(v), lambda i, j: s.div(a.sub(P[i][j], a.mul(k[i], w[j])), beta)),)


def two_sided(a, s, P, w, z, d, beta):
    return matrix(len(P), lambda i, j: s.div(a.sub(P[i][j], s.div(a.mul(w[i], z[j]), d)), beta))


def outer(a, s, state, v, beta, alpha):
    (P,) = state
    w = [a.dot(row, v) for row in P]
    return (two_sided(a, s, P, w, w, total(s, v, w, beta, alpha), beta),)


def symmetric(a, s, state, v, beta, alpha):
    return (mirrored(outer(a, s, (mirrored(state[0]),), v, beta, alpha)[0]),)


def both_sided(a, s, state, v, beta, alpha):
    (P,) = state
    w, z = [a.dot(row, v) for row in P], [a.dot(v, column) for column in transposed(P)]
    return (two_sided(a, s, P, w, z, total(s, v, w, beta, alpha), beta),)


def joseph(a, s, state, v, beta, alpha):
    (P,) = state
    w = [a.dot(row, v) for row in P]
    d = total(s, v, w, beta, alpha)
    k = [s.div(x, d) for x in w]
    A = matrix(len(v), lambda i, j: a.sub(P[i][j], a.mul(k[i], w[j])))
    y = [a.dot(row, v) for row in A]
    tau_k = [s.mul(s.div(beta, alpha), x) for x in k]
    element = lambda i, j: a.add(a.sub(A[i][j], a.mul(y[i], k[j])), a.mul(tau_k[i], k[j]))  # noqa: E731
    return (mirrored(matrix(len(v), lambda i, j: s.div(element(i, j), beta))),)


def master_copy(a, s, state, v, beta, alpha):
    (P,) = symmetric(a, s, state[:1], v, beta, alpha)
    return P, P


def scaled(a, s, state, v, beta, alpha):
    H, d = state
    n = len(v)
    H = matrix(n, lambda i, j: 1.0 if i == j else H[max(i, j)][min(i, j)])
    x = [a.mul(p, q) for p, q in zip(d, v, strict=True)]
    w = [a.dot(row, x) for row in H]
    t = total(s, x, w, beta, alpha)
    Z = matrix(n, lambda i, j: a.sub(H[i][j], s.div(a.mul(w[i], w[j]), t)))
    r = [a.sqrt(Z[i][i]) for i in range(n)]
    H = matrix(n, lambda i, j: 1.0 if i == j else a.div(Z[i][j], a.mul(r[i], r[j])))
    return H, [s.div(a.mul(p, q), s.sqrt(beta)) for p, q in zip(d, r, strict=True)]


def potter(a, s, state, v, beta, alpha):
    (S,) = state
    f = [a.dot(v, column) for column in transposed(S)]
    z = [a.dot(row, f) for row in S]
    tau = s.div(beta, alpha)
    d = s.add(tau, s.dot(f, f))
    divisor = s.add(d, s.mul(s.sqrt(tau), s.sqrt(d)))
    k = [s.div(x, divisor) for x in z]
    return (matrix(len(v), lambda i, j: s.div(a.sub(S[i][j], a.mul(k[i], f[j])), s.sqrt(beta))),)


def bierman_ud(a, s, state, v, beta, alpha):
    U, d = state
    n = len(v)
    f = [a.add(a.dot(v, column), x) for column, x in zip(transposed(U), v, strict=True)]
    g = [a.mul(x, y) for x, y in zip(d, f, strict=True)]
    sums = [s.div(beta, alpha)]
    for x, y in zip(f, g, strict=True):
        sums.append(s.add(sums[-1], s.mul(x, y)))
    k, new = [0.0] * n, [[0.0] * n for _ in range(n)]
    for j in range(n):
        factor = s.div(f[j], sums[j])
        for i in range(j):
            new[i][j] = a.sub(U[i][j], s.mul(k[i], factor))
        k = [a.add(k[i], g[j] if i == j else a.mul(U[i][j], g[j])) for i in range(n)]
    return new, [s.div(s.mul(x, s.div(sums[j], sums[j + 1])), beta) for j, x in enumerate(d)]


def ldl(a, s, state, v, beta, alpha):
    L, d = state
    n, r, weight = len(v), list(v), alpha
    new, pivots = [[0.0] * n for _ in range(n)], []
    for j in range(n):
        p = a.of(r[j])
        r = [a.sub(x, a.mul(p, L[i][j])) for i, x in enumerate(r)]
        q = s.mul(weight, p)
        old = s.mul(beta, d[j])
        pivots.append(s.add(old, s.mul(q, p)))
        b = s.div(q, pivots[j])
        for i in range(j + 1, n):
            new[i][j] = a.add(L[i][j], s.mul(r[i], b))
        weight = s.mul(weight, s.div(old, pivots[j]))
    return new, pivots


def information_cholesky(a, s, state, v, beta, alpha):
    n = len(v)
    R = matrix(n, lambda i, j: s.mul(s.sqrt(beta), state[0][i][j]))
    x = [s.mul(s.sqrt(alpha), y) for y in v]
    for j in range(n):
        row, p, q = [a.of(y) for y in R[j]], abs(a.of(R[j][j])), abs(a.of(x[j]))
        t = s.div(min(p, q), max(p, q))
        h = s.sqrt(s.add(1.0, s.mul(t, t)))
        c, sine = (s.div(1.0, h), s.div(t, h)) if p >= q else (s.div(t, h), s.div(1.0, h))
        sine = math.copysign(sine, x[j])
        x = [a.of(y) for y in x]
        R[j] = [0.0] * j + [a.add(s.mul(c, row[i]), s.mul(sine, x[i])) for i in range(j, n)]
        R[j][j] = a.of(s.mul(max(p, q), h))
        x = [a.sub(s.mul(c, x[i]), s.mul(sine, row[i])) if i > j else 0.0 for i in range(n)]
    return (R,)


REFERENCES = {
    f.__name__: f
    for f in (
        gain,
        outer,
        symmetric,
        both_sided,
        joseph,
        master_copy,
        scaled,
        potter,
        bierman_ud,
        ldl,
        information_cholesky,
    )
}
ROLES = {
    "apart": by_role(state="bfloat16", arrays="tfloat32", scalars="float32"),
    "arrays narrow": by_role(state="tfloat32", arrays="bfloat16", scalars="tfloat32"),
    "binary64": pl.Arithmetic("float64"),
}
SELECTED = {
    "apart": {"gain", "bierman_ud", "information_cholesky"},
    "binary64": {"potter", "bierman_ud", "ldl", "scaled"},  # where nothing hides the order of operations
}
CASES = [
    pytest.param(name, role, marks=[] if name in SELECTED.get(role, ()) else [pytest.mark.slow], id=f"{name}, {role}")
    for role in ROLES
    for name in REFERENCES
]


def precision_of(arithmetic, scope):
    return Scalar(PRECISIONS[dict(arithmetic.overrides).get(scope, arithmetic).result.name])


def rounded(scalar, x):
    return np.vectorize(scalar.of, otypes=[float])(np.asarray(x, np.float64)).tolist()


@pytest.mark.parametrize(("name", "role"), CASES)
def test_emulated_forms_are_the_scalar_reference_bit_for_bit(name, role):
    form, arithmetic = rank_one.METHODS[name], ROLES[role]
    draws = np.random.default_rng(sum(map(ord, name)))
    A = draws.standard_normal((N, N))
    C, V = A @ A.T + np.eye(N), draws.standard_normal((STEPS, N))
    dtype = jnp.float64 if role == "binary64" else jnp.float32
    with jax.enable_x64(True):
        start = jax.tree.map(lambda x: x.astype(dtype) if x.dtype == jnp.float64 else x, form.start(jnp.asarray(C)))
        stream, beta = jnp.asarray(V, dtype), jnp.asarray(BETA, dtype)
        found, states = pl.emulate(partial(rank_one.run, form), arithmetic)(start, stream, beta)
    assert states is None

    state, a, s = (precision_of(arithmetic, scope) for scope in ("state", "arrays", "scalars"))
    fields = [field for field in type(start)._fields if field != "outcome"]
    kept = [rounded(s, getattr(start, field)) for field in fields]  # arguments are in the arithmetic of scalars
    for v in rounded(s, stream):
        made = REFERENCES[name](a, s, tuple(kept), v, BETA, s.sub(1.0, BETA))
        kept = [rounded(state, x) if field in form.stored else x for field, x in zip(fields, made, strict=True)]
    for field, want in zip(fields, kept, strict=True):
        np.testing.assert_array_equal(getattr(found, field), want, err_msg=field)
