"""Elementary functions in every mode, against fifty digits and the list of a format's numbers."""

import bisect
from fractions import Fraction

import jax
import mpmath
import numpy as np
import pytest
from jax import lax
from rational_rounding import grid

import precond_lab as pl
from precond_lab.arithmetic import formats

FUNCTIONS = {
    "sin": (lax.sin, mpmath.sin),
    "cos": (lax.cos, mpmath.cos),
    "tan": (lax.tan, mpmath.tan),
    "atan": (lax.atan, mpmath.atan),
    "sinh": (lax.sinh, mpmath.sinh),
    "cosh": (lax.cosh, mpmath.cosh),
    "tanh": (lax.tanh, mpmath.tanh),
    "asinh": (lax.asinh, mpmath.asinh),
    "erf": (lax.erf, mpmath.erf),
    "erfc": (lax.erfc, mpmath.erfc),
    "exp": (lax.exp, mpmath.exp),
    "exp2": (lax.exp2, lambda x: mpmath.power(2, x)),
    "expm1": (lax.expm1, mpmath.expm1),
    "logistic": (lax.logistic, lambda x: 1 / (1 + mpmath.exp(-x))),
    "cbrt": (lax.cbrt, lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x))),
    "asin": (lax.asin, mpmath.asin),
    "atanh": (lax.atanh, mpmath.atanh),
    "log1p": (lax.log1p, mpmath.log1p),
    "log": (lax.log, mpmath.log),
    "rsqrt": (lax.rsqrt, lambda x: 1 / mpmath.sqrt(x)),
}
DOMAIN = {
    "asin": lambda x: np.abs(x) <= 1,
    "atanh": lambda x: np.abs(x) < 1,
    "log1p": lambda x: x > -1,
    "log": lambda x: x > 0,
    "erf": lambda x: np.abs(x) < 25,
    "erfc": lambda x: np.abs(x) < 25,
    "tanh": lambda x: np.abs(x) < 500,
    "logistic": lambda x: np.abs(x) < 500,
    "expm1": lambda x: np.abs(x) < 500,
    "rsqrt": lambda x: x > 0,
}
MODES = ["nearest_even", "toward_zero", "up", "down", "odd"]
DIGITS = 500  # tells 1 from tanh(500)


def rounded(exact: mpmath.mpf, values: list[int], format, mode: str) -> float:
    """The rounding of an exact number, from the ascending list of the format's magnitudes."""
    negative, man, exp, _ = exact._mpf_  # arithmetic on it would round it again
    sign = -1 if negative else 1
    units = Fraction(int(man)) * Fraction(2) ** (exp + 1074)
    index = bisect.bisect_right(values, units) - 1
    lower, upper = values[index], values[min(index + 1, len(values) - 1)]
    if units >= values[-1]:  # beyond the largest number and the next one
        lower, upper = values[-2], values[-1]
    away = {"up": sign > 0, "down": sign < 0, "toward_zero": False, "odd": index % 2 == 0}
    if mode == "nearest_even":
        rest = 2 * units - lower - upper
        up = rest > 0 or (rest == 0 and index % 2 == 1)
    else:
        up = away[mode] and units != lower
    beyond = units >= values[-1]
    if mode in {"toward_zero", "odd"} and (beyond or (up and upper == values[-1])):
        return sign * format.max
    if mode in {"up", "down"} and beyond:
        return sign * (np.inf if away[mode] else format.max)
    chosen = upper if up or (beyond and mode == "nearest_even") else lower
    return sign * (np.inf if chosen == values[-1] else float(Fraction(chosen, 2**1074)))


@pytest.mark.parametrize("name", ["float8_e5m2", pytest.param("float16", marks=pytest.mark.slow)])
def test_functions_are_rounded_right_in_every_mode(name):
    """All values of the format; a table maker's dilemma deeper than float64 would show as a failure."""
    format = formats.named(name)
    values = grid(format)
    magnitudes = np.array([float(Fraction(v, 2**1074)) for v in values[1:-1]], np.float32)
    if len(magnitudes) > 1000:
        magnitudes = np.concatenate([magnitudes[:40], magnitudes[40::31], magnitudes[-40:]])
    xs = np.concatenate([magnitudes, -magnitudes])
    with mpmath.workdps(DIGITS):
        wanted = {}
        for function, (_, exact) in FUNCTIONS.items():
            inside = xs[DOMAIN.get(function, np.isfinite)(xs)]
            wanted[function] = inside, [exact(mpmath.mpf(float(x))) for x in inside]
    for mode in MODES:
        run = pl.emulate(lambda x: {k: f(x) for k, (f, _) in FUNCTIONS.items()}, pl.Arithmetic(format, mode))
        got = jax.tree.map(np.asarray, run(xs))
        for function, (inside, exact) in wanted.items():
            where = np.isin(xs, inside)
            right = np.array([rounded(y, values, format, mode) for y in exact], np.float32)
            wrong = got[function][where] != right
            shown = list(zip(inside[wrong], got[function][where][wrong], right[wrong], strict=True))[:5]
            assert not wrong.any(), (function, mode, shown)


def test_a_limit_is_not_taken_for_the_value():
    """In float64 each of these results is the limit itself."""
    x = np.float32(30)
    down, up = (pl.Arithmetic("float32", mode) for mode in ("toward_zero", "up"))
    below_one = 1 - 2.0**-24
    assert pl.emulate(lax.tanh, down)(x).item() == below_one
    assert pl.emulate(lax.erf, down)(x).item() == below_one
    assert pl.emulate(lax.logistic, down)(np.float32(100)).item() == below_one
    assert pl.emulate(lax.exp, up)(np.float32(-3e4)).item() == 2.0**-149
    assert pl.emulate(lax.exp, up)(np.float32(2.0**-100)).item() == 1 + 2.0**-23
    assert pl.emulate(lax.exp, up)(np.float32(0)).item() == 1
    assert pl.emulate(lax.sin, down)(np.float32(2.0**-100)).item() == 2.0**-100 * (1 - 2.0**-24)
    assert pl.emulate(lax.pow, up)(np.float32(1.5), np.float32(2.0**-100)).item() == 1 + 2.0**-23
    assert pl.emulate(lax.pow, up)(np.float32(2), np.float32(3)).item() == 8
