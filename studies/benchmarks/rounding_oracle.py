"""Rounding by its definition, in NumPy, on the numbers where an implementation is likeliest to be wrong."""

import itertools
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
        format: a format whose numbers are numbers of `x`'s dtype, or a wider one, which changes nothing.
        rounding: a mode that is not random.

    Returns:
        The values of the format, in the dtype of `x`.
    """
    with np.errstate(invalid="ignore"):  # a signaling NaN
        wide = x.astype(np.float64)
    finite, magnitude = np.isfinite(wide), np.abs(wide)
    magnitude = np.where(finite, magnitude, 0)
    _, exponent = np.frexp(magnitude)
    spacing = np.maximum(exponent - 1, format.min_exponent) - format.precision + 1
    scaled = np.ldexp(magnitude, -spacing)
    with np.errstate(over="ignore"):
        result = np.ldexp(_integer(scaled, spacing, wide < 0, format, rounding), spacing)
    if not format.subnormals:
        result = np.where(result < format.min_normal, 0, result)
    if not format.zero:
        result = np.maximum(result, format.min_subnormal)
    ceilings = {"infinity": np.inf, "nan": np.nan, "saturate": format.max}
    beyond = np.full(x.shape, ceilings[format.overflow])
    if rounding in {"toward_zero", "odd", "up", "down"}:
        stays = {"up": wide < 0, "down": wide > 0}.get(rounding, True)
        beyond = np.where(stays, format.max, beyond)
    infinite = np.inf if format.has_infinity else ceilings[format.overflow]
    result = np.where(result > format.max, beyond, result)
    result = np.where(np.isinf(wide), infinite, np.where(np.isnan(wide), np.nan, result))
    return _signed(result, wide, format).astype(x.dtype)


def _integer(
    scaled: np.ndarray, spacing: np.ndarray, negative: np.ndarray, format: Format, rounding: str
) -> np.ndarray:
    """Round magnitudes that are counted in units of the last place."""
    whole = np.floor(scaled)
    rest = scaled - whole
    # With a single bit every normal significand is 1, and the last bit of a code is the exponent's.
    odd = whole % 2 == 1
    if format.precision == 1:
        odd = (whole > 0) & ((spacing - format.min_exponent + format.zero) % 2 == 1)
    match rounding:
        case "nearest_even":
            more = (rest > 0.5) | ((rest == 0.5) & odd)
        case "nearest_away":
            more = rest >= 0.5
        case "toward_zero":
            more = np.zeros(rest.shape, bool)
        case "odd":
            more = (rest > 0) & ~odd
        case "up":
            more = (rest > 0) & ~negative
        case "down":
            more = (rest > 0) & negative
        case _:
            raise ValueError(f"no definition of the rounding {rounding!r}")
    return whole + more


def _signed(result: np.ndarray, wide: np.ndarray, format: Format) -> np.ndarray:
    """Give magnitudes their signs, as far as the format has them."""
    result = np.copysign(result, wide)
    if not format.signed:
        result = np.where(wide < 0, np.nan, result)
    if not format.zero:
        result = np.where(wide == 0, np.nan, result)
    return result if format.signed_zero and format.signed else np.where(result == 0, 0.0, result)


def boundaries(format: Format, dtype: np.dtype) -> np.ndarray:
    """Every value and midpoint of a narrow format, one beyond the largest too, with neighbors and infinity."""
    lowest = format.min_exponent - format.precision + 1
    significands = np.arange(2 ** (format.precision - 1), 2**format.precision, dtype=np.float64)
    exponents = np.arange(lowest, format.max_exponent - format.precision + 2)
    normal = np.ldexp(significands[:, None], exponents).ravel()
    values = np.sort(np.append(normal, np.ldexp(np.arange(significands.size, dtype=np.float64), lowest)))
    values = np.append(values[values <= format.max], np.ldexp(format.max_significand + 1.0, exponents[-1]))
    with np.errstate(over="ignore"):  # bfloat16 ends where float32 does
        exact = np.append(values, (values[1:] + values[:-1]) / 2).astype(dtype)
    bits = exact.view(UNSIGNED[dtype])
    special = np.array([np.nan, np.inf, np.finfo(dtype).max], dtype).view(bits.dtype)
    neighbors = np.concatenate([bits, bits + 1, np.maximum(bits, 1) - 1, special])
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


# Operations of narrow formats


def pairs(format: Format) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of values of a narrow format: its finite numbers, NaN, and infinities if it has them.

    Args:
        format: a format of at most 8 bits.

    Returns:
        Left and right operands, float32 arrays.
    """
    candidates = boundaries(format, np.dtype(np.float32))
    values = oracle(candidates, format, "nearest_even")
    values = np.unique(np.append(values, [np.nan, -np.inf, np.inf] if format.has_infinity else [np.nan]))
    values = values[np.isnan(values) | (oracle(values, format, "nearest_even") == values)]
    values += np.float32(0)  # of the two zeros, which are equal, either may be left
    if format.signed_zero and format.signed and format.zero:
        values = np.append(values, np.float32(-0.0))
    left, right = zip(*itertools.product(values, values), strict=True)
    return np.array(left, np.float32), np.array(right, np.float32)


def operate(name: str, a: np.ndarray, b: np.ndarray, format: Format, rounding: str) -> np.ndarray:
    """One operation on numbers of a format of at most 8 bits, rounded once, by its definition.

    A product of two such numbers is a float64. So is a sum, but of e8m0 and the like: it is rounded to odd, which
    keeps every later rounding right. Rounded down, a sum that cancels is -0. A quotient that is no float64 is
    further from every value and midpoint of so narrow a format than float64's rounding error.

    Args:
        name: add, sub, mul or div.
        a: left operands.
        b: right operands.
        format: the format.
        rounding: a mode that is not random.

    Returns:
        float32 array.
    """
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        match name:
            case "add":
                exact = _odd_sum(x, y, rounding)
            case "sub":
                exact = _odd_sum(x, -y, rounding)
            case "mul":
                exact = x * y
            case "div":
                exact = x / y
            case _:
                raise ValueError(f"no definition of the operation {name!r}")
    return oracle(exact, format, rounding).astype(np.float32)


def _odd_sum(x: np.ndarray, y: np.ndarray, rounding: str) -> np.ndarray:
    """A sum rounded to odd: where it is not exact, the one of its two neighbors whose last bit is set."""
    total = x + y
    part = total - x
    residual = (x - (total - part)) + (y - part)
    even = (total.view(np.uint64) & 1) == 0
    other = np.nextafter(total, np.copysign(np.inf, residual))
    total = np.where(np.isfinite(total) & (residual != 0) & even, other, total)
    cancels = (total == 0) & (np.signbit(x) | np.signbit(y))
    return np.where(cancels, -0.0, total) if rounding == "down" else total
