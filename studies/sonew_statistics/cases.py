"""The grid: formats, recurrences, decays, and gradient sizes."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from precond_lab.study import Options

BETAS = (0.9, 0.95, 0.972396, 0.99, 0.995, 0.999)  # the third is what SONew's authors tuned for bfloat16


class Scheme(NamedTuple):
    """How statistics are carried from step to step.

    Attributes:
        program: name of the recurrence in the LogDet programs.
        rounding: of every operation.
        wide: the recurrence is computed and kept in float32, and H rounded to the format where it is used.
    """

    program: str
    rounding: Literal["nearest_even", "stochastic"] = "nearest_even"
    wide: bool = False

    @property
    def summed(self) -> bool:
        """Whether this is a sum, which has no decay."""
        return self.program.startswith("add")


SCHEMES = {
    "sum": Scheme("add"),
    "sum_compensated": Scheme("add_compensated"),
    "sum_stochastic": Scheme("add", rounding="stochastic"),
    "sum_wide": Scheme("add", wide=True),
    "average": Scheme("average"),
    "increment": Scheme("average_by_increment"),
    "compensated": Scheme("average_compensated"),
    "stochastic": Scheme("average_by_increment", rounding="stochastic"),
    "wide": Scheme("average", wide=True),
}
PLAIN = ("sum", "average", "increment", "compensated")  # what float32 is tried with: it needs no cure


class Range(NamedTuple):
    """What gradients a format is tried with.

    Attributes:
        exponents: their standard deviations are at most 2 to these powers.
        target: of the scaling; None where the range needs none.
    """

    exponents: tuple[int, ...]
    target: float | None


RANGES = {
    "bfloat16": Range((0, -10, -20), None),
    "float16": Range((8, 4, 0, -4, -8, -12, -16, -20), 2.0**7),
    "float32": Range((0, -10, -20), None),
    "float8_e4m3fn": Range((0, -2, -4, -6), 2.0**3),
}


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries.
    """
    n, steps, seeds = (128, 6000, 1) if options.quick else (512, 12000, 3)
    for format, (exponents, target) in RANGES.items():
        for name in PLAIN if format == "float32" else SCHEMES:
            for scaling in (False, True) if target else (False,):
                for exponent in exponents:
                    for beta2 in (None,) if SCHEMES[name].summed else BETAS:
                        for seed in range(seeds):
                            yield {
                                "format": format,
                                "scheme": name,
                                "scaling": scaling,
                                "exponent": exponent,
                                "beta2": beta2,
                                "steps": steps,
                                "n": n,
                                "seed": seed,
                            }
