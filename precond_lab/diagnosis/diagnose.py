"""Judge one function, at one input, in one arithmetic."""

import textwrap
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import mpmath
import numpy as np

from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.events import Events
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.specification import Arithmetic, as_arithmetic
from precond_lab.diagnosis.condition import condition_number
from precond_lab.diagnosis.errors import Kind, forward_error, paired
from precond_lab.diagnosis.verdict import MODEST, Verdict, judge
from precond_lab.interpreter import has_64_bit_leaf
from precond_lab.truth.evaluate import evaluate


class Diagnosis(NamedTuple):
    """What became of a function in an arithmetic.

    Attributes:
        verdict: accurate, conditioning, unstable or breakdown.
        rounding_error: relative error of the emulated result against the same steps with 50 digits.
        truncation_error: relative error of those steps against the mathematical target; None without a target.
        condition: relative condition number of the function at this input.
        attainable: condition times unit roundoff: what rounding the inputs once more may cost. No lower bound: with
            inputs that are exact in the format an algorithm may do better.
        amplification: rounding error over the attainable error (or the unit roundoff, if that is larger).
        events: counts of overflow, underflow to zero, invalid operations, divisions by zero.
        arithmetic: what was emulated.
        kind: the norm of the errors and of the condition number.
        computed: the emulated result.
        exact: the result with 50 digits.
    """

    verdict: Verdict
    rounding_error: float
    truncation_error: float | None
    condition: float
    attainable: float
    amplification: float
    events: Events
    arithmetic: Arithmetic
    kind: Kind
    computed: Any
    exact: Any

    def __str__(self) -> str:
        """One screen that a person can read."""
        u = self.arithmetic.unit_roundoff
        rows = [
            ("rounding error", f"{self.rounding_error:.3g}", "emulated against the same steps with many digits"),
            ("attainable", f"{self.attainable:.3g}", "condition x unit roundoff: what rounding the inputs may cost"),
            (
                "amplification",
                f"{self.amplification:.3g}",
                f"the one over the other; up to {MODEST:g} is called modest",
            ),
            ("condition", f"{self.condition:.3g}", f"{self.kind}, from the function's own derivative"),
            ("unit roundoff", f"{u:.3g}", str(self.arithmetic)),
        ]
        if self.truncation_error is not None:
            rows.insert(1, ("truncation error", f"{self.truncation_error:.3g}", "many digits against the target"))
        counts = {name.replace("_", " "): int(n) for name, n in self.events._asdict().items()}
        happened = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "none"
        prose = textwrap.wrap(self.verdict.prose, 98, initial_indent="  ", subsequent_indent="  ")
        lines = [f"{self.verdict.upper()} in {self.arithmetic}", *prose, ""]
        lines += [f"  {name:<17}{value:>10}   {meaning}" for name, value, meaning in rows]
        lines.append(f"  {'events':<17}{happened:>10}")
        return "\n".join(lines)


def diagnose(
    f: Callable,
    *args: Any,
    arithmetic: Arithmetic | Format | str = "bfloat16",
    target: Any = None,
    digits: int = 50,
    kind: Kind = "normwise",
    **kwargs: Any,
) -> Diagnosis:
    """Say what becomes of `f` at its arguments in a low-precision arithmetic, and why.

    Three runs of the same program are compared: emulated, with 50 digits, and (if given) the mathematical target.

    Args:
        f: a function of pytrees of arrays, made of operations that `emulate` and `evaluate` know.
        *args: its arguments; their values are taken exactly, and are rounded first by the emulation.
        arithmetic: an `Arithmetic`, or a format (record or name).
        target: the mathematically exact result, of the same structure and shapes, or a function of the same arguments
            that gives it.
        digits: decimal digits of the exact run.
        kind: "normwise" or "componentwise" errors and condition number.
        **kwargs: keyword arguments of `f`; the emulation rounds them too, the condition number holds them fixed.

    Returns:
        A `Diagnosis`; print it.

    Raises:
        UnsupportedPrimitiveError: the program uses a primitive without a rule.
        ValueError: the exact result is not finite, the target does not fit it, the function has no floating-point
            results, or it is too large for a Jacobian.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> d = diagnose(lambda x: x[0] - x[1], np.array([1.25, 1.2421875]), arithmetic="float8_e5m2")
        >>> d.verdict.value, d.rounding_error
        ('conditioning', 1.0)
    """
    arithmetic = as_arithmetic(arithmetic)
    held, held_kwargs = jax.tree.map(lambda x: _holding(x, arithmetic.result), (args, kwargs))
    with jax.enable_x64(True) if has_64_bit_leaf((held, held_kwargs)) else nullcontext():  # else results become float32
        computed, events = emulate(f, arithmetic, events=True)(*held, **held_kwargs)
    exact = evaluate(f, *args, digits=digits, **kwargs)
    entries, exact_entries = paired(computed, exact)
    _check_domain(exact_entries)
    condition = condition_number(f, *args, kind=kind, **kwargs)
    rounding_error = forward_error(computed, exact, kind, digits)
    u = arithmetic.unit_roundoff
    attainable = condition * u
    truncation_error = None
    if target is not None:
        goal = target(*args, **kwargs) if callable(target) else target
        truncation_error = forward_error(exact, goal, kind, digits)
    return Diagnosis(
        verdict=judge(rounding_error, condition, u, bool(np.isfinite(entries.astype(np.float64)).all())),
        rounding_error=rounding_error,
        truncation_error=truncation_error,
        condition=condition,
        attainable=attainable,
        amplification=rounding_error / max(attainable, u),
        events=jax.tree.map(int, events),
        arithmetic=arithmetic,
        kind=kind,
        computed=computed,
        exact=exact,
    )


def _holding(x: Any, format: Format) -> Any:
    """An argument in a dtype that holds the format, so that results, which take its dtype, are not rounded again."""
    own = getattr(x, "dtype", np.dtype(np.float32) if isinstance(x, float) else None)
    if own is None or not jax.numpy.issubdtype(own, np.floating):
        return x
    wanted = next((dtype for dtype in (own, np.float32) if _holds(dtype, format)), np.float64)
    return x if wanted == own else np.asarray(x, wanted)


def _holds(dtype: Any, format: Format) -> bool:
    limits = jax.numpy.finfo(dtype)
    wide = limits.minexp <= format.min_exponent and format.max_exponent < limits.maxexp
    return bool(wide and format.precision <= limits.nmant + 1)


def _check_domain(exact: np.ndarray) -> None:
    outside = [value for value in exact if not mpmath.isfinite(value)]
    if outside:
        raise ValueError(
            f"these arguments are outside of the function's domain: {len(outside)} of the {len(exact)} entries of the "
            f"exact result are not finite ({outside[0]}), so there is no error to judge; give arguments at which the "
            "function is finite"
        )
