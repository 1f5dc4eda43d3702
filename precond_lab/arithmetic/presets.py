"""Arithmetics of matrix units, by the name of the hardware, and how much of each is known."""

import difflib
from functools import partial
from typing import NamedTuple

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.formats import Format
from precond_lab.arithmetic.matrix_units import MatrixUnit
from precond_lab.arithmetic.specification import Arithmetic


class Preset(NamedTuple):
    """An arithmetic named after hardware.

    Attributes:
        name: as in `Arithmetic.preset(name)`.
        arithmetic: the arithmetic.
        documented: what a vendor states or a publication has measured.
        assumed: what no source settles, and what is left out.
        sources: where it is from.
    """

    name: str
    arithmetic: Arithmetic
    documented: str
    assumed: str
    sources: tuple[str, ...]


FASI = (
    "M. Fasi, N. J. Higham, M. Mikaitis, S. Pranesh, Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science "
    "7 (2021) e330, https://doi.org/10.7717/peerj-cs.330"
)
MMA_SIM = (
    "P. Xie, Y. Wang, F. Yang, M. Yang, MMA-Sim: bit-accurate reference model of tensor cores and matrix cores, "
    "arXiv:2511.10909 (2025), and its program, https://github.com/microsoft/MMA-Sim"
)
DEEPSEEK = "DeepSeek-AI, DeepSeek-V3 technical report, arXiv:2412.19437 (2024), section 3.3.2"
INTEL = "Intel 64 and IA-32 architectures software developer's manual, volume 2, VDPBF16PS"
HENRY = (
    "G. Henry, P. T. P. Tang, A. Heinecke, Leveraging the bfloat16 artificial intelligence datatype for "
    "higher-precision computations, ARITH 2019, arXiv:1904.06376"
)
TPU = (
    "S. Wang, P. Kanwar, BFloat16: the secret to high performance on Cloud TPUs, Google Cloud blog (2019); N. P. "
    "Jouppi et al., A domain-specific supercomputer for training deep neural networks, Communications of the ACM 63 "
    "(2020)"
)
XLA = "Measured with jaxlib 0.10.2 on x86-64; the tests of this library repeat the measurement"

E8M13 = Format("E8M13", 14, -126, 127)
"""The accumulator of Hopper's 8-bit products: float32 with 13 bits of the fraction."""

_ALIGNED = (
    "The products of a step are exact. They and the accumulator are aligned to the largest exponent, truncated to "
    "{bits} bits below it, added without intermediate normalization, and the sum is truncated to {accumulator}. One "
    "step takes {group} products. Subnormal operands are not flushed."
)
_ASSUMED = (
    "That steps follow one another in the order of the contracted index, beginning with an accumulator of zero: a "
    "library's kernel may split that index among warps or blocks and add their sums. Results are rounded to nearest "
    "even to {result} once, at the end. Sums and element-wise operations outside of matrix products are those of "
    "{result}, although libraries commonly compute them in float32."
)


def _tensor_core(name: str, result: Format, bits: int, group: int, sources: tuple[str, ...]) -> Preset:
    narrow = bits < 20
    unit = MatrixUnit(name, group=group, fraction_bits=bits, accumulator=E8M13 if narrow else formats.float32)
    return Preset(
        name,
        Arithmetic(result, accumulate="float32", unit=unit),
        _ALIGNED.format(bits=bits, group=group, accumulator=unit.accumulator.name),
        _ASSUMED.format(result=result.name),
        sources,
    )


def _all() -> tuple[Preset, ...]:
    bfloat16, float16, tfloat32 = formats.bfloat16, formats.float16, formats.tfloat32
    in_float32 = partial(Arithmetic, "bfloat16", accumulate="float32")
    return (
        _tensor_core("v100-fp16", float16, 23, 4, (FASI, MMA_SIM)),
        _tensor_core("a100-bf16", bfloat16, 24, 8, (FASI, MMA_SIM)),
        _tensor_core("a100-tf32", tfloat32, 24, 4, (FASI, MMA_SIM)),
        _tensor_core("h100-bf16", bfloat16, 25, 16, (MMA_SIM,)),
        _tensor_core("h100-fp16", float16, 25, 16, (MMA_SIM,)),
        _tensor_core("h100-tf32", tfloat32, 25, 8, (MMA_SIM,)),
        _tensor_core("h100-fp8", formats.float8_e4m3fn, 13, 32, (DEEPSEEK, MMA_SIM)),
        Preset(
            "tpu-bf16",
            in_float32(),
            "Products of bfloat16 numbers are exact, sums are kept in float32.",
            "That sums are rounded to nearest even one product after the other, in the order of the contracted index, "
            "and keep subnormal numbers. No source states the order, the rounding or the alignment inside of the "
            "systolic array.",
            (TPU,),
        ),
        Preset(
            "cpu-bf16",
            in_float32(),
            "XLA on a CPU widens bfloat16 operands to float32, multiplies the matrices there, and rounds the result to "
            "bfloat16 once, to nearest even.",
            "The order of the float32 sums, which is that of the Eigen or oneDNN kernel, depends on the shape and the "
            "machine, and may use FMA; here it is that of the contracted index. XLA also flushes float32 subnormals, "
            "which this model keeps.",
            (XLA,),
        ),
        Preset(
            "cpu-avx512-bf16",
            in_float32(
                unit=MatrixUnit("VDPBF16PS", group=2, rounding="nearest_even", backwards=True, flush=True),
            ),
            "The instruction adds two products of bfloat16 numbers to a float32 accumulator by two fused "
            "multiply-adds, the second of the pair first, each rounded to nearest even whatever MXCSR says. Subnormal "
            "operands count as zeros, subnormal results are flushed.",
            "That a kernel gives each result one accumulator and takes pairs of neighbors in the order of the "
            "contracted index: kernels for large matrices keep several.",
            (INTEL, HENRY),
        ),
    )


PRESETS: dict[str, Preset] = {one.name: one for one in _all()}
"""The table of presets, by name."""


def preset(name: str) -> Preset:
    """Find a preset.

    Args:
        name: such as "h100-bf16"; case, blanks and underscores do not matter.

    Returns:
        The preset.

    Raises:
        ValueError: no preset has that name.

    Example:
        >>> preset("H100_BF16").arithmetic.unit.group
        16
    """
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key in PRESETS:
        return PRESETS[key]
    close = difflib.get_close_matches(key, PRESETS, n=1)
    hint = f"did you mean {close[0]!r}? The" if close else "the"
    raise ValueError(f"no preset is named {name!r}; {hint} presets are {', '.join(PRESETS)}")
