"""Products of matrices to nearly twice the precision of their arithmetic, by ordinary products of slices."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from precond_lab.linalg.matrices import product as full_product
from precond_lab.preconditioners.inverse_root.powers import Product, exponent, power_of_two, scale

Digits = TypeVar("Digits", int, jax.Array)


class TwoFloat(NamedTuple):
    """An unevaluated sum.

    Attributes:
        high: the sum, rounded.
        low: what that leaves.
    """

    high: jax.Array
    low: jax.Array


class Slices(NamedTuple):
    """A matrix as a sum of matrices of few digits.

    Attributes:
        parts: they, the leading one first.
        rests: what the first 0, 1, ..., parts leave of the matrix; all are exact.
    """

    parts: list[jax.Array]
    rests: list[jax.Array]


def two_sum(a: jax.Array, b: jax.Array) -> TwoFloat:
    """The rounded sum and its error, a + b = high + low exactly in rounding to nearest (Knuth, TAOCP 2, section 4.2.2).

    The barriers keep a compiler from rearranging the sums, or from using them before they are rounded.

    Args:
        a: of any shape.
        b: of the same.

    Returns:
        The sum.

    Example:
        >>> import jax.numpy as jnp
        >>> high, low = two_sum(jnp.float32(1.0), jnp.float32(2.0**-30))
        >>> float(high), float(low) == 2.0**-30
        (1.0, True)
    """
    total = lax.optimization_barrier(a + b)
    near = lax.optimization_barrier(total - b)
    return TwoFloat(total, (a - near) + (b - lax.optimization_barrier(total - near)))


def accumulated(terms: list[jax.Array], rest: jax.Array) -> TwoFloat:
    """The sum of some terms without rounding errors but those of the sum of the errors.

    (Sum2 of Ogita, Rump and Oishi 2005: k terms come out with an error of about k^2 u^2 times the sum of their
    magnitudes, and u^2 of that of the sum.)

    Args:
        terms: of one shape, at least one.
        rest: another, so small that errors of its own sums do not matter.

    Returns:
        The sum, its high part the sum of both parts rounded.
    """
    total, lost = terms[0], rest
    for term in terms[1:]:
        total, error = two_sum(total, term)
        lost = lost + error
    return two_sum(total, lost)


def slice_bits(n: int, levels: int, digits: int) -> int:
    r"""How many bits a slice can have so that sums of products of slices are exact.

    The elements of a slice are integers of magnitude at most 2^{b-1} times a unit of their row or column. Products are
    integers of at most 2^{2b-2}, and the `levels` n of them that one level sums stay within 2^digits, where every
    integer is a number of the format: all partial sums are exact in any order, fused or not, if

        levels n 2^{2b-2} <= 2^digits.

    Args:
        n: the length of the inner products.
        levels: of the product.
        digits: of the significand of the format, the implicit one included.

    Returns:
        b.

    Raises:
        ValueError: if there is no b of at least 2.

    Example:
        >>> slice_bits(512, 2, 24), slice_bits(2048, 2, 24), slice_bits(8, 1, 24)
        (8, 7, 11)
    """
    b = _bits(n, levels, digits)
    if b < 2:
        raise ValueError(f"n = {n} and {levels} levels given; {digits} digits are too few for them")
    return b


def digits_of(x: jax.Array) -> jax.Array:
    """The digits of the significand of the arithmetic at hand, the implicit one included.

    They are found by adding ever smaller powers of two to one until the sum is not exact, which it is in every rounding
    mode alike: so an emulated arithmetic shows its own digits, and not those of the dtype that carries it.

    Args:
        x: any array of floating-point numbers.

    Returns:
        At most those of the dtype, an int32 scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> int(digits_of(jnp.float32(3.0)))
        24
    """
    most = _digits_of_dtype(x)
    one = jnp.ones_like(x, shape=())

    def felt(state: tuple[jax.Array, jax.Array]) -> jax.Array:
        digits, power = state
        return (digits < most) & (lax.optimization_barrier(one + power) - one == power)

    def smaller(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        digits, power = state
        return digits + 1, power / 2

    return lax.while_loop(felt, smaller, (jnp.int32(1), one / 2))[0]


def _digits_of_dtype(x: jax.Array) -> int:
    return int(jnp.finfo(x.dtype).nmant) + 1


def fitting_bits(x: jax.Array, n: int, levels: int) -> jax.Array:
    """That many bits of :func:`slice_bits`, for the arithmetic at hand.

    Where its digits are too few, slices of 2 bits are taken, whose sums are rounded: such a product is no better than
    an ordinary one.

    Args:
        x: any array of floating-point numbers.
        n: the length of the inner products.
        levels: of the product.

    Returns:
        An int32 scalar.

    Raises:
        ValueError: if the dtype has too few digits.
    """
    slice_bits(n, levels, _digits_of_dtype(x))
    return jnp.maximum(_bits(n, levels, digits_of(x)), 2)


def _bits(n: int, levels: int, digits: Digits) -> Digits:
    return (digits - (levels * n - 1).bit_length()) // 2 + 1


def power_above(x: jax.Array) -> jax.Array:
    """The least power of two above each number.

    Args:
        x: positive, ``[n]``.

    Returns:
        ``[n]``.

    Example:
        >>> import jax.numpy as jnp
        >>> power_above(jnp.array([0.75, 1.0])).tolist()
        [1.0, 2.0]
    """
    return jax.vmap(lambda x: scale(jnp.ones_like(x), exponent(x)))(x)


def slices(A: jax.Array, axis: int, bits: jax.Array | int, levels: int) -> Slices:
    """A matrix as a sum of slices, each rounded to a unit of its row or column.

    Every row (with `axis` = 1: the maximum is taken along it) has a power of two above its largest element, alpha =
    2^e. The unit of slice i is alpha 2^{1-b-bi}. Slice 0 is A rounded to its unit; what it leaves is at most half the
    unit, alpha 2^{-b}, exactly a number of the format, and is sliced in turn. So the elements of slice i are integers
    of magnitude at most 2^{b-1} in its unit. Rounding to integers, unlike adding and subtracting a large number, is an
    operation that no compiler sees through.

    Args:
        A: ``[m, n]``.
        axis: 1 for units of the rows, 0 for units of the columns.
        bits: of a slice, b.
        levels: how many slices.

    Returns:
        The slices.
    """
    largest = jnp.max(jnp.abs(A), axis=axis)
    step = power_of_two(A, -bits)
    unit = jnp.expand_dims(2 * power_above(jnp.where(largest > 0, largest, 1)) * step, axis)
    parts, rests = [], [A]
    for _ in range(levels):
        unit = jnp.where(unit > 0, unit, 1)  # below the range: nothing is left to slice
        parts.append(jnp.round(rests[-1] / unit) * unit)
        rests.append(rests[-1] - parts[-1])
        unit = unit * step
    return Slices(parts, rests)


def product_terms(
    left: Slices, right: Slices, product: Callable[[jax.Array, jax.Array], jax.Array]
) -> tuple[list[jax.Array], jax.Array]:
    """What the product of two sliced matrices is the sum of.

    With k slices, level l < k is the sum of the products of slice i and slice l - i, and exact. What is missing is the
    sum over i < k of slice i times what k - i slices leave of the right matrix, and what k slices leave of the left one
    times the right one: it is at most (k + 1) n 2^{-bk} alpha beta, and its rounding errors are u n times that.

    Args:
        left: with units of the rows, ``[m, n]``.
        right: with units of the columns, ``[n, r]``.
        product: of two matrices.

    Returns:
        The levels, each ``[m, r]``, and the rest, rounded. Cost: (k^2 + 3 k + 2) / 2 products.
    """
    k = len(left.parts)
    exact = [_sum(product(left.parts[i], right.parts[level - i]) for i in range(level + 1)) for level in range(k)]
    rest = _sum(product(left.parts[i], right.rests[k - i]) for i in range(k)) + product(left.rests[k], right.rests[0])
    return exact, rest


def _sum(terms: Iterator[jax.Array]) -> jax.Array:
    first, *others = terms
    for term in others:
        first = first + term
    return first


def two_float_product(A: jax.Array, B: jax.Array, *, levels: int = 2, product: Product = full_product) -> TwoFloat:
    r"""A B as a sum of two matrices (Ozaki, Ogita, Oishi and Rump 2012).

    A is cut into slices of b bits by rows and B by columns, so short that a plain product of slices has no rounding
    error (the proof is in :func:`slice_bits` and :func:`slices`); only what lies 2^{-bk} below the largest products is
    rounded. With alpha_i the power of two above the largest element of row i of A and beta_j that of column j of B,

        \|error_ij\| <= (k + 1) (n + k) n u 2^{-bk} alpha_i beta_j + 2 (k u)^2 \|A B\|_ij

    up to higher order: for n = 512 in float32, b = 8, and k = 2 gives 2^-16 of an ordinary product's error. The bound
    is relative to the largest elements of row and column, not to the product of magnitudes.

    A matrix unit that takes short operands does no harm if it takes b bits, and sums in the format: bfloat16's 8 are
    enough for n = 512.

    Args:
        A: ``[m, n]``.
        B: ``[n, r]``, of the same dtype.
        levels: k, how many are exact; b becomes smaller with more.
        product: of two matrices, which must sum in the format of its operands.

    Returns:
        The product. Cost: 3, 6 or 10 ordinary products for 1, 2 or 3 levels.

    Raises:
        ValueError: if n is too large for the format.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.float32(1 + 2.0**-20)
        >>> high, low = two_float_product(x[None, None], x[None, None])
        >>> high.item() + low.item() == 1 + 2.0**-19 + 2.0**-40
        True
    """
    bits = fitting_bits(A, A.shape[1], levels)
    exact, rest = product_terms(slices(A, 1, bits, levels), slices(B, 0, bits, levels), product)
    return accumulated(exact, rest)


def gram_remainder(A: jax.Array, L: jax.Array, product: Product = full_product) -> tuple[jax.Array, jax.Array]:
    r"""A - L L^T, which mostly cancels, by products of slices.

    With L = P + Q + R, where P and Q are slices of b bits and R is what they leave, both P P^T and P Q^T + Q P^T are
    exact, and only

        P R^T + R P^T + (Q + R) (Q + R)^T

    is rounded: it is 2^{-2b} of what an ordinary product rounds. The plain difference would be of no use: a Cholesky
    factor of small numbers is made by the same roundings.

    Args:
        A: symmetric, ``[n, n]``.
        L: ``[n, n]``, of the same dtype.
        product: of two matrices, which must sum in the format of its operands.

    Returns:
        ``[n, n]``, symmetric, and whether the digits of the arithmetic were enough for slices; if not, it is no better
        than the plain difference. Cost: 4 ordinary products, or one for a dtype of too few digits.
    """
    n, levels = A.shape[0], 2
    if _bits(n, levels, _digits_of_dtype(A)) < 2:
        return A - product(L, L.T), jnp.array(False)
    bits = _bits(n, levels, digits_of(A))
    (P, Q), (_, after, R) = slices(L, 1, jnp.maximum(bits, 2), levels)
    mixed, small = product(P, Q.T), product(P, R.T)
    rest = small + small.T + product(after, after.T)
    return accumulated([A, -product(P, P.T), -(mixed + mixed.T)], -rest).high, bits >= 2


def split_product(A: jax.Array, B: jax.Array, *, levels: int = 2) -> jax.Array:
    """A B, rounded once from :func:`two_float_product`.

    It can stand as `product` in :class:`~precond_lab.preconditioners.inverse_root.kernels.Kernels`, or as the product
    of early steps.

    Args:
        A: ``[m, n]``.
        B: ``[n, r]``.
        levels: how many are exact.

    Returns:
        ``[m, r]``.
    """
    return two_float_product(A, B, levels=levels).high
