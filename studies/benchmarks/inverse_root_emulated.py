"""What emulation adds to the matrix products of a coupled Newton iteration."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from inverse_root_cells import warmed
from inverse_root_programs import SETTING
from inverse_root_truth import matrix
from measure import Entry, Sampler, interleaved

from precond_lab import Arithmetic, emulate
from precond_lab.linalg.matrices import product
from precond_lab.preconditioners import inverse_root as ir

P = 4
ARITHMETICS = {
    "bfloat16 carried in float64": Arithmetic("bfloat16"),
    "bfloat16 carried in float32": Arithmetic("bfloat16", carrier="float32"),
    "bfloat16, sums in float32": Arithmetic("bfloat16", accumulate="float32"),
}
MILD = 1e2
"""A condition number at which bfloat16 carries a root."""
EMULATED, PRODUCTS = "the root", "limit: as many emulated products"
CERTIFICATE = "of which the certificate"
NATIVE = "the root in float32"


def certificate_products(p: int) -> int:
    """How many matrix products the certificate takes, counted as JAX traces it.

    Args:
        p: the exponent.

    Returns:
        The number.
    """
    count = 0

    def counted(A: jax.Array, B: jax.Array) -> jax.Array:
        nonlocal count
        count += 1
        return product(A, B)

    square = jax.ShapeDtypeStruct((2, 2), jnp.float32)
    kernels = SETTING.kernels._replace(product=counted)
    jax.eval_shape(lambda A, X: ir.certificate(A, X, p, kernels), square, square)
    return count


def products_of(steps: int, p: int) -> int:
    """How many matrix products a coupled Newton iteration does, with its certificate.

    A step takes one for X T, and for T^p M as many as the power and one more.

    Args:
        steps: of the iteration.
        p: the exponent.

    Returns:
        The number.
    """
    power = p.bit_length() - 1 + p.bit_count() - 1
    return steps * (2 + power) + certificate_products(p)


class Overhead(NamedTuple):
    """An emulated iteration beside its limit.

    Attributes:
        arithmetic: its name.
        n: size of the matrix.
        steps: of the iteration.
        products: that it does.
        ratio: of its time over that of as many products, the median of the rounds.
        certificate: the same of the certificate alone, which is part of it.
    """

    arithmetic: str
    n: int
    steps: int
    products: int
    ratio: float
    certificate: float


def times(count: int, sample: Sampler) -> Sampler:
    """The sampler of so many calls."""
    return lambda: count * sample()


def measure_emulated(arithmetic: str, n: int, rounds: int) -> tuple[list[Entry], Overhead]:
    """Coupled Newton with its certificate, all emulated, beside one emulated product times the number of products.

    Args:
        arithmetic: a name in ARITHMETICS.
        n: size of the matrix.
        rounds: how often both are timed.

    Returns:
        The times, and what the root takes beyond the products.
    """
    how, A = ARITHMETICS[arithmetic], matrix(n, MILD)
    certificate = partial(ir.certificate, p=P)
    native = partial(ir.coupled_newton, p=P, setting=SETTING)
    found, sample = warmed(partial(jax.jit(emulate(partial(ir.coupled_newton, p=P), how)), A))
    steps = int(found.steps)
    count = products_of(steps, P)
    _, one_product = warmed(partial(jax.jit(emulate(product, how)), A, found.root))
    samplers = {
        PRODUCTS: times(count, one_product),
        EMULATED: sample,
        CERTIFICATE: warmed(partial(jax.jit(emulate(certificate, how)), A, found.root))[1],
        NATIVE: warmed(partial(jax.jit(native), A))[1],
    }
    timings = interleaved(samplers, PRODUCTS, rounds)
    column = f"n = {n}, {steps} steps, {count} products"
    entries = [Entry(f"Emulated: {arithmetic}", case, column, 0, timing) for case, timing in timings.items()]
    return entries, Overhead(arithmetic, n, steps, count, timings[EMULATED].ratio, timings[CERTIFICATE].ratio)
