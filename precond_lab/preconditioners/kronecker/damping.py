"""What is added to two factors so that their Kronecker product is nearly that of the matrix plus a multiple of I.

B (x) A + lambda I is no Kronecker product. Factored Tikhonov regularization (Martens and Grosse 2015, section 6.3)
takes (B + sqrt(lambda) / pi I) (x) (A + pi sqrt(lambda) I) for it, which has the terms pi sqrt(lambda) B (x) I +
sqrt(lambda) / pi I (x) A too much; pi balances the two.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from precond_lab.linalg.matrices import identity_like, nonzero, square_matrix
from precond_lab.preconditioners.kronecker.factors import Factors
from precond_lab.preconditioners.rank_one.averages import Weight, average_vector


def balance(factors: Factors) -> jax.Array:
    """The pi of factored damping: sqrt((tr A / n) / (tr B / m)).

    Args:
        factors: A and B.

    Returns:
        A scalar; one where a trace is zero, for then no balance is to be kept. Cost: m + n flops.
    """
    with jax.named_scope("scalars"):
        ratio = mean_diagonal(factors.A) / nonzero(mean_diagonal(factors.B))
        balanced = (ratio > 0) & (mean_diagonal(factors.B) > 0)
        return jnp.sqrt(jnp.where(balanced, ratio, jnp.ones_like(ratio)))


def mean_diagonal(A: jax.Array) -> jax.Array:
    """The trace divided by the order.

    Args:
        A: ``[n, n]``.

    Returns:
        A scalar.
    """
    with jax.named_scope("scalars"):
        return jnp.sum(jnp.diagonal(A)) / A.shape[0]


def shifted(A: jax.Array, amount: jax.Array | float) -> jax.Array:
    """A + delta I.

    Args:
        A: ``[n, n]``.
        amount: delta, a scalar.

    Returns:
        ``[n, n]``; only the diagonal is rounded.
    """
    with jax.named_scope("scalars"):
        return jnp.where(identity_like(A) == 1, A + amount, A)


def factored(factors: Factors, damping: jax.Array | float) -> Factors:
    """Both factors with their shares: A + pi sqrt(lambda) I and B + sqrt(lambda) / pi I.

    Order: pi, sqrt(lambda), their product and quotient, the sums.

    Args:
        factors: A and B.
        damping: lambda, positive.

    Returns:
        The damped factors. Cost: 2 (m + n) flops.

    Example:
        >>> import jax.numpy as jnp
        >>> A, B = factored(Factors(jnp.array([[4.0]]), jnp.array([[1.0]])), 0.25)
        >>> A.item(), B.item()
        (5.0, 1.25)
    """
    pi = balance(factors)
    with jax.named_scope("scalars"):
        root = jnp.sqrt(damping)
        return Factors(shifted(factors.A, pi * root), shifted(factors.B, root / pi))


def factored_by_scale(matrices: Sequence[jax.Array], damping: jax.Array | float) -> tuple[jax.Array, ...]:
    """Damped factors of a Kronecker product of k matrices, as kfac-jax has them.

    Each matrix is divided by the mean c_i of its diagonal, gets lambda^{1/k} / c I, and is multiplied by c, the
    geometric mean of the c_i. The product of the c_i is never formed, as it may underflow: c = exp(mean of log c_i).
    For two matrices the Kronecker product is that of `factored`, the factors up to a scale. Where one of the matrices
    is zero the product is lambda I, and each factor lambda^{1/k} I. A factor of order one gets a share as any other
    does.

    Args:
        matrices: symmetric positive semidefinite, each ``[n_i, n_i]``.
        damping: lambda, positive.

    Returns:
        As many matrices. Cost: 3 n_i^2 flops for each.

    Raises:
        ValueError: there is none.

    Example:
        >>> import jax.numpy as jnp
        >>> A, B = factored_by_scale([jnp.array([[4.0]]), jnp.array([[1.0]])], 0.25)
        >>> round(A.item() * B.item(), 4)
        6.25
    """
    if not matrices:
        raise ValueError("no matrix given; give the factors of a Kronecker product, one or more")
    matrices = [square_matrix(A) for A in matrices]
    with jax.named_scope("scalars"):
        means = [mean_diagonal(A) for A in matrices]
        k = len(matrices)
        positive = jnp.all(jnp.stack(means) > 0)
        safe = [jnp.where(positive, mean, jnp.ones_like(mean)) for mean in means]
        scale = jnp.exp(sum(jnp.log(mean) for mean in safe) / k)
        share = jnp.exp(jnp.log(damping) / k)
        regular = [scale * shifted(A / mean, share / scale) for A, mean in zip(matrices, safe, strict=True)]
        return tuple(jnp.where(positive, A, share * identity_like(A)) for A in regular)


def leaking_step(
    factor: jax.Array,
    statistic: jax.Array,
    damping: jax.Array | float,
    *,
    new_weight: Weight | None = None,
    old_weight: Weight | None = None,
) -> jax.Array:
    """A running average whose damping leaks into it: A <- old A + new S + delta I, which is inverted and kept alike.

    The K-FAC that Eva's code compares with, and kfac_pytorch before it, add the damping to a view of the running factor
    before they invert it, in place: it is still there in the next step. After t steps the damping is
    delta (1 - old^t) / (1 - old): 1.05 delta where the old weight is 0.05, as there, 20 delta where it is the usual
    0.95.

    Args:
        factor: of the step before, as it was inverted, ``[n, n]``.
        statistic: of the batch, ``[n, n]``.
        damping: delta, of this factor.
        new_weight: of the statistic.
        old_weight: of the factor that was; exactly one of the two is given.

    Returns:
        The matrix to be inverted, and to be kept, ``[n, n]``.

    Raises:
        ValueError: both weights or none are given, or shapes differ.

    Example:
        >>> import jax.numpy as jnp
        >>> A = jnp.zeros((1, 1))
        >>> for _ in range(3):
        ...     A = leaking_step(A, jnp.zeros((1, 1)), 1.0, old_weight=0.5)
        >>> A.item()
        1.75
    """
    with jax.named_scope("arrays"):
        return shifted(average_vector(factor, statistic, new_weight=new_weight, old_weight=old_weight), damping)


def leaked_damping(steps: jax.Array | int, old_weight: jax.Array | float, damping: jax.Array | float) -> jax.Array:
    """What has been added to a factor that leaks: delta (1 - old^t) / (1 - old).

    Args:
        steps: t.
        old_weight: below one.
        damping: delta.

    Returns:
        A scalar.

    Example:
        >>> leaked_damping(3, 0.5, 1.0).item()
        1.75
    """
    old = jnp.asarray(old_weight)
    return damping * (1 - old**steps) / (1 - old)
