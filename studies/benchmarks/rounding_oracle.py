"""Rounding by its definition, in NumPy, on the numbers where an implementation is likeliest to be wrong."""

from collections.abc import Iterator

import numpy as np

from precond_lab.arithmetic.formats import Format

UNSIGNED = {np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.uint64}
BLOCK = 2**21


def oracle(x: np.ndarray, format: Format, rounding: str) -> np.ndarray:
    """Round by the definition: scale the spacing of the format to 1, round to an integer, scale back.

    All of it is exact in NumPy's float64, which flushes no subnormal.

    Args:
        x: float32 or float64 array.
        format: a format of at most 24 bits and an exponent range within that of float32.
        rounding: a mode that is not random.

    Returns:
        The values of the format, in the dtype of `x`.
    """
    integer = {"nearest_even": np.rint, "toward_zero": np.trunc}[rounding]
    with np.errstate(invalid="ignore"):  # a signaling NaN
        wide = x.astype(np.float64)
    finite = np.isfinite(wide)
    _, exponent = np.frexp(np.where(finite, wide, 0))
    spacing = np.maximum(exponent - 1, format.min_exponent) - format.precision + 1
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        result = np.where(finite, np.ldexp(integer(np.ldexp(wide, -spacing)), spacing), wide)
        beyond = np.abs(result) > format.max
        if rounding == "toward_zero":
            result = np.where(finite & beyond, np.copysign(format.max, wide), result)
            beyond &= ~finite
        policy = {"infinity": np.inf, "nan": np.nan, "saturate": format.max}[format.overflow]
        return np.where(beyond, np.copysign(policy, wide), result).astype(x.dtype)


def boundaries(format: Format, dtype: np.dtype) -> np.ndarray:
    """Every value and midpoint of a narrow format, one beyond the largest too, with neighbors."""
    lowest = format.min_exponent - format.precision + 1
    significands = np.arange(2 ** (format.precision - 1), 2**format.precision, dtype=np.float64)
    exponents = np.arange(lowest, format.max_exponent - format.precision + 2)
    normal = np.ldexp(significands[:, None], exponents).ravel()
    values = np.sort(np.append(normal, np.ldexp(np.arange(significands.size, dtype=np.float64), lowest)))
    values = np.append(values[values <= format.max], np.ldexp(format.max_significand + 1.0, exponents[-1]))
    with np.errstate(over="ignore"):  # bfloat16 ends where float32 does
        exact = np.append(values, (values[1:] + values[:-1]) / 2).astype(dtype)
    bits = exact.view(UNSIGNED[dtype])
    nan = np.array([np.nan], dtype).view(bits.dtype)
    neighbors = np.concatenate([bits, bits + 1, np.maximum(bits, 1) - 1, nan])
    return np.concatenate([neighbors, neighbors | bits.dtype.type(1 << (dtype.itemsize * 8 - 1))]).view(dtype)


def random_patterns(count: int, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Random bit patterns; of float64 also numbers in the range of float32, a hair beside a tie."""
    generator = np.random.default_rng(count)
    unsigned = UNSIGNED[dtype]
    for start in range(0, count, BLOCK):
        n = min(BLOCK, count - start)
        yield generator.integers(0, np.iinfo(unsigned).max, n, unsigned, endpoint=True).view(dtype)
        if dtype == np.float64:
            near = generator.integers(0, 2**32, n, np.uint32).view(np.float32)
            near = (near.view(np.uint32) & np.uint32(0xFFFFF000)).view(np.float32)
            with np.errstate(invalid="ignore"):  # signaling NaNs
                yield near.astype(np.float64) * (1 + generator.choice([-1, 1], n) * 2.0**-40)


def subnormals(count: int, dtype: np.dtype) -> np.ndarray:
    """Subnormal numbers of the carrier, and of float32."""
    generator = np.random.default_rng(count)
    bits = generator.integers(0, 2**23, count, np.uint32)
    small = (bits | generator.integers(0, 2, count, np.uint32) << np.uint32(31)).view(np.float32)
    if dtype == np.float32:
        return small
    own = generator.integers(0, 2**52, count, np.uint64).view(np.float64)
    return np.concatenate([small.astype(np.float64), own])
