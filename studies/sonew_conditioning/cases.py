"""The grid: enumerated pairs of vertices, random bands, and chains read backwards."""

import enum
from collections.abc import Iterator
from typing import Any

from precond_lab.study import Options


class Part(enum.StrEnum):
    """What kind of case a row is."""

    CONDITIONS = "conditions"
    BANDS = "bands"
    ERRORS = "errors"
    THRESHOLDS = "thresholds"
    SIGNS = "signs"
    TOLERANCES = "tolerances"
    REVERSALS = "reversals"


PRECISION = {"float8_e5m2": 3, "float8_e4m3fn": 4, "bfloat16": 8, "float16": 11, "float32": 24}
TOLERANCES = ("0", "1u", "2u", "4u", "8u", "20u")
BANDS = (1, 2, 4)
CORRELATIONS = (0.5, 0.9, 0.99, 0.999)


def grid(options: Options) -> Iterator[dict[str, Any]]:
    """All cases of a run.

    Args:
        options: what was asked for on the command line.

    Yields:
        Plain dictionaries; `part` says which axes the others are. A stride of 1 enumerates all pairs of significands.
    """
    quick = options.quick
    # float16 has 64 times as many pairs as bfloat16; of float32's, a sample: a prime stride leaves no bit at rest
    strides = {"float16": 32 if quick else 1, "float32": 16381 if quick else 4093}
    for format, precision in PRECISION.items():
        stride = strides.get(format, 1)
        yield {"part": Part.THRESHOLDS.value, "format": format, "stride": stride}
        # 2^-k <= 1 - beta^2 < 2^(1-k), down to half the unit roundoff
        for octave in range(1, precision + 2):
            sparse = {"float16": 32 if quick else 4, "float32": 65521 if quick else 16381}.get(format, 1)
            axes = {"format": format, "stride": sparse, "octave": octave, "edges": 16 if quick else 64}
            yield {"part": Part.ERRORS.value, **axes}
    for format in ("float8_e5m2", "float8_e4m3fn", "bfloat16", "float16"):
        yield {"part": Part.SIGNS.value, "format": format, "stride": strides.get(format, 1)}
        sparse = {"bfloat16": 4, "float16": 128}.get(format, 1) if quick else {"float16": 16}.get(format, 1)
        yield {"part": Part.CONDITIONS.value, "format": format, "stride": sparse, "edges": 8 if quick else 32}
    for format in ("bfloat16", "float16"):
        for tolerance in TOLERANCES:
            axes = {"format": format, "stride": strides.get(format, 1), "tolerance": tolerance}
            yield {"part": Part.TOLERANCES.value, **axes}
    for band in BANDS:
        for correlation in CORRELATIONS:
            for seed in range(1 if quick else 5):
                axes = {"band": band, "correlation": correlation, "n": 2**12 if quick else 2**16, "seed": seed}
                yield {"part": Part.BANDS.value, **axes}
        yield {"part": Part.REVERSALS.value, "band": band, "trials": 20 if quick else 200, "seed": 0}
