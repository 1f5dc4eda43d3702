"""What measures the cases of each part."""

from collections.abc import Callable, Mapping
from typing import Any

from . import aging, asymmetry, bounds, survival
from .cases import Part

MEASURES: Mapping[Part, Callable[..., list[dict[str, Any]]]] = {
    Part.ASYMMETRY: asymmetry.measure,
    Part.TILT: asymmetry.measure_curve,
    Part.PERTURBATION: aging.measure_perturbation,
    Part.STAGNATION: aging.measure_stagnation,
    Part.WINDUP: aging.measure_windup,
    Part.SURVIVAL: survival.measure,
    Part.THRESHOLDS: survival.measure,
    Part.EIGHT_BITS: survival.measure,
    Part.OVERFLOW: survival.measure,
    Part.ROUNDING: bounds.measure_rounding,
    Part.SANDWICH: bounds.measure_sandwich,
    Part.FORWARD: bounds.measure_forward,
    Part.REFINEMENT: bounds.measure_refinement,
}
