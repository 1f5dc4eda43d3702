"""CPFloat's shared library through ctypes: rounding float32 and float64 arrays.

The library is built by CPFloat's own `make lib`. Its record of options is laid out as in its header
`cpfloat_definitions.h`; as that has changed between versions, the library must first round a few numbers whose
roundings are known, and is refused if it does not.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from precond_lab.arithmetic.formats import Format

MODES = {
    "nearest_away": -1,
    "nearest_even": 1,
    "up": 2,
    "down": 3,
    "toward_zero": 4,
    "stochastic": 5,
    "odd": 7,
}
FUNCTIONS = {np.dtype(np.float32): "cpfloatf", np.dtype(np.float64): "cpfloat"}


class Options(ctypes.Structure):
    """The C structure `optstruct`."""

    _fields_ = (
        ("format", ctypes.c_char * 15),
        ("precision", ctypes.c_uint),
        ("emin", ctypes.c_int),
        ("emax", ctypes.c_int),
        ("explim", ctypes.c_int),
        ("infinity", ctypes.c_int),
        ("round", ctypes.c_int),
        ("saturation", ctypes.c_int),
        ("subnormal", ctypes.c_int),
        ("flip", ctypes.c_int),
        ("p", ctypes.c_double),
        ("bitseed", ctypes.c_void_p),
        ("randseedf", ctypes.c_void_p),
        ("randseed", ctypes.c_void_p),
    )


class CPFloat:
    """A loaded library."""

    def __init__(self, path: str) -> None:
        """Load the library and try it.

        Args:
            path: of the shared library.

        Raises:
            OSError: There is no such library.
            RuntimeError: It does not round as this module's layout of its options says.
        """
        self.library = ctypes.CDLL(path)
        half = Format("half", 11, -14, 15)
        x = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 65519, 65520, -(2.0**-24), 1.5 * 2.0**-24])
        right = [1, 1 + 2.0**-9, 65504, np.inf, -(2.0**-24), 2.0**-23]
        for dtype in FUNCTIONS:
            rounder = self.rounder(half, "nearest_even")
            if rounder is None or rounder(x.astype(dtype)).tolist() != right:
                raise RuntimeError("the library has another layout of options than cpfloat_definitions.h of 2024")

    def rounder(self, format: Format, rounding: str) -> Callable[[np.ndarray], np.ndarray] | None:
        """The function that rounds to a format, into a fresh array.

        Args:
            format: a format as CPFloat has it: with every significand, and infinities.
            rounding: a mode.

        Returns:
            The function, or None where CPFloat has no such format.
        """
        if format.missing_top or format.overflow != "infinity" or not format.signed_zero:
            return None
        options = Options(
            precision=format.precision,
            emin=format.min_exponent,
            emax=format.max_exponent,
            explim=1,
            infinity=1,
            round=MODES[rounding],
            subnormal=int(format.subnormals),
        )

        def call(x: np.ndarray) -> np.ndarray:
            result = np.empty_like(x)
            function: Any = getattr(self.library, FUNCTIONS[x.dtype])
            pointer = ctypes.c_void_p(x.ctypes.data)
            function(ctypes.c_void_p(result.ctypes.data), pointer, ctypes.c_size_t(x.size), ctypes.byref(options))
            return result

        return call
