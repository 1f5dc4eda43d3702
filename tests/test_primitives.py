"""Every primitive that JAX has is classified, and treated as the table says."""

import itertools
import subprocess
import sys
from functools import cache

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

import precond_lab as pl
from precond_lab import interpreter
from precond_lab.arithmetic import primitives
from precond_lab.arithmetic.emulate import emulate
from precond_lab.arithmetic.primitives import KINDS, REFUSALS, Kind
from precond_lab.arithmetic.rounding import round_to
from precond_lab.arithmetic.rules import SPECIAL
from precond_lab.interpreter import UnsupportedPrimitiveError

LIST_PRIMITIVES = """
import gc, importlib, pkgutil, warnings
warnings.simplefilter("ignore")
import jax, jax.extend as jex

DEVICES = ("test", "tpu", "triton", "mosaic", "cuda", "rocm", "pallas", "thunky")

def load(package):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        # what compiles for one kind of device has primitives of its own, inside of opaque ones
        if not any(part in module.name for part in DEVICES):
            try:
                loaded = importlib.import_module(module.name)
            except Exception:
                continue
            if module.ispkg:
                load(loaded)

load(jax._src)
print(*sorted({x.name for x in gc.get_objects() if isinstance(x, jex.core.Primitive)}))
"""


def test_every_primitive_of_jax_is_in_the_table():
    listed = subprocess.run([sys.executable, "-c", LIST_PRIMITIVES], capture_output=True, text=True, check=True)
    names = set(listed.stdout.split())
    assert len(names) > 200
    assert not names - set(KINDS), "new to the table: say in arithmetic/primitives.py how they are treated"


def test_no_primitive_is_of_two_kinds():
    groups = primitives._GROUPS
    assert not [(a, b, groups[a] & groups[b]) for a, b in itertools.combinations(groups, 2) if groups[a] & groups[b]]


def test_special_primitives_have_rules_and_rules_have_rows():
    assert {name for name, kind in KINDS.items() if kind is Kind.SPECIAL} <= set(SPECIAL)
    assert all(KINDS[name] in {Kind.SPECIAL, Kind.ROUNDED} for name in SPECIAL)


# One program a primitive, of vectors x (around zero) and y (positive), and a matrix A.
CASES = {
    # exact
    "abs": lambda x, y, A: jnp.abs(x),
    "ceil": lambda x, y, A: jnp.ceil(x),
    "floor": lambda x, y, A: jnp.floor(x),
    "round": lambda x, y, A: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN),
    "sign": lambda x, y, A: jnp.sign(x),
    "neg": lambda x, y, A: -x,
    "clamp": lambda x, y, A: lax.clamp(y[1], x, y[0]),
    "max": lambda x, y, A: lax.max(x, y),
    "min": lambda x, y, A: lax.min(x, y),
    "cummax": lambda x, y, A: lax.cummax(x),
    "cummin": lambda x, y, A: lax.cummin(x),
    "reduce_max": lambda x, y, A: jnp.max(A, axis=0),
    "reduce_min": lambda x, y, A: jnp.min(A),
    "sort": lambda x, y, A: lax.sort((x, y), num_keys=1),
    "top_k": lambda x, y, A: lax.top_k(x, 3),
    "eq": lambda x, y, A: x == y[::-1],
    "ne": lambda x, y, A: x != y,
    "lt": lambda x, y, A: x < y,
    "le": lambda x, y, A: x <= y,
    "gt": lambda x, y, A: x > y,
    "ge": lambda x, y, A: x >= y,
    "is_finite": lambda x, y, A: jnp.isfinite(x),
    "reduce_window_max": lambda x, y, A: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), "valid"),
    "reduce_window_min": lambda x, y, A: lax.reduce_window(x, jnp.inf, lax.min, (2,), (1,), "valid"),
    "scatter-max": lambda x, y, A: x.at[jnp.array([1, 1])].max(y[:2]),
    "scatter-min": lambda x, y, A: x.at[jnp.array([1, 1])].min(y[:2]),
    # moves
    "broadcast_in_dim": lambda x, y, A: jnp.broadcast_to(x, (2, x.size)),
    "concatenate": lambda x, y, A: jnp.concatenate([x, y]),
    "copy": lambda x, y, A: jnp.array(x, copy=True),
    "device_put": lambda x, y, A: jax.device_put(x),
    "dynamic_slice": lambda x, y, A: lax.dynamic_slice(x, (jnp.argmax(y),), (2,)),
    "dynamic_update_slice": lambda x, y, A: lax.dynamic_update_slice(x, y[:2], (jnp.argmin(y),)),
    "gather": lambda x, y, A: x[jnp.array([3, 0, -1])],
    "name": lambda x, y, A: checkpoint_name(x, "x"),
    "optimization_barrier": lambda x, y, A: lax.optimization_barrier(x),
    "pad": lambda x, y, A: lax.pad(x, y[0], ((1, -1, 1),)),
    "reshape": lambda x, y, A: A.reshape(-1),
    "rev": lambda x, y, A: lax.rev(A, (0,)),
    "scatter": lambda x, y, A: x.at[jnp.array([2])].set(y[:1]),
    "select_n": lambda x, y, A: jnp.where(x > y, x, y),
    "slice": lambda x, y, A: x[1:4:2],
    "split": lambda x, y, A: lax.split(x, (2, x.size - 2)),
    "squeeze": lambda x, y, A: lax.squeeze(A[:1], (0,)),
    "tile": lambda x, y, A: jnp.tile(x, 2),
    "transpose": lambda x, y, A: A.T,
    # rounded
    "add": lambda x, y, A: x + y,
    "sub": lambda x, y, A: x - y,
    "mul": lambda x, y, A: x * y,
    "div": lambda x, y, A: x / y,
    "rem": lambda x, y, A: lax.rem(x, y),
    "sqrt": lambda x, y, A: jnp.sqrt(y),
    "add_any": lambda x, y, A: jax.grad(lambda x: jnp.sum(jnp.sin(x) + jnp.cos(x)))(x)[:0],
    # library
    "acos": lambda x, y, A: lax.acos(x / 4),
    "acosh": lambda x, y, A: lax.acosh(y + 1),
    "asin": lambda x, y, A: lax.asin(x / 4),
    "asinh": lambda x, y, A: lax.asinh(x),
    "atan": lambda x, y, A: lax.atan(x),
    "atan2": lambda x, y, A: lax.atan2(x, y),
    "atanh": lambda x, y, A: lax.atanh(x / 4),
    "bessel_i0e": lambda x, y, A: lax.bessel_i0e(x),
    "bessel_i1e": lambda x, y, A: lax.bessel_i1e(x),
    "cbrt": lambda x, y, A: lax.cbrt(x),
    "cos": lambda x, y, A: lax.cos(x),
    "cosh": lambda x, y, A: lax.cosh(x),
    "digamma": lambda x, y, A: lax.digamma(y),
    "erf": lambda x, y, A: lax.erf(x),
    "erf_inv": lambda x, y, A: lax.erf_inv(x / 4),
    "erfc": lambda x, y, A: lax.erfc(x),
    "exp": lambda x, y, A: lax.exp(x),
    "exp2": lambda x, y, A: lax.exp2(x),
    "expm1": lambda x, y, A: lax.expm1(x),
    "igamma": lambda x, y, A: lax.igamma(y, jnp.abs(x)),
    "igamma_grad_a": lambda x, y, A: lax.igamma_grad_a(y, jnp.abs(x)),
    "igammac": lambda x, y, A: lax.igammac(y, jnp.abs(x)),
    "lgamma": lambda x, y, A: lax.lgamma(y),
    "log": lambda x, y, A: lax.log(y),
    "log1p": lambda x, y, A: lax.log1p(y),
    "logistic": lambda x, y, A: lax.logistic(x),
    "polygamma": lambda x, y, A: lax.polygamma(jnp.floor(y), y),
    "pow": lambda x, y, A: lax.pow(y, x),
    "regularized_incomplete_beta": lambda x, y, A: lax.betainc(y, y + 1, jnp.abs(x / 4)),
    "rsqrt": lambda x, y, A: lax.rsqrt(y),
    "sin": lambda x, y, A: lax.sin(x),
    "sinh": lambda x, y, A: lax.sinh(x),
    "tan": lambda x, y, A: lax.tan(x),
    "tanh": lambda x, y, A: lax.tanh(x),
    "zeta": lambda x, y, A: lax.zeta(y + 1, y),
}
if hasattr(lax, "log2"):  # since jax 0.12
    CASES["log2"] = lambda x, y, A: lax.log2(y)
    CASES["one_minus_square"] = lambda x, y, A: lax.one_minus_square(x / 4)
    CASES["polynomial"] = lambda x, y, A: lax.polynomial(x, [y, y, y])
# Divisions by four and sums with one are exact here, so that all else is one operation.
ARGUMENTS = (
    np.array([0.75, -1.25, 2.5, -0.0625, 3.5, -2.75], np.float32),
    np.array([0.5, 2.25, 1.75, 3.5, 0.125, 6.0], np.float32),
    np.array([[1.5, -2.0, 0.25], [3.0, 0.125, -7.0]], np.float32),
)
# No public function binds them in this version, several devices are needed, or the laws of whole programs hold them.
NOT_HERE = {
    *("eq_to", "le_to", "lt_to", "zeros_like", "add_dependency", "copy_to_host_async", "copy_p", "layout_constraint"),
    *("pvary", "reshard", "roll", "sharding_constraint", "stack", "stop_gradient", "unstack", "reciprocal", "log2"),
}
SEVERAL_ROUNDINGS = {"one_minus_square", "polynomial"}


def test_every_primitive_that_is_emulated_alone_has_a_case():
    alone = {Kind.EXACT, Kind.MOVE, Kind.ROUNDED, Kind.LIBRARY}
    assert {name for name, kind in KINDS.items() if kind in alone} - NOT_HERE <= set(CASES)


@cache
def emulated_cases():
    return emulate(lambda *args: {name: f(*args) for name, f in CASES.items()}, "float16")(*ARGUMENTS)


@pytest.mark.parametrize("name", CASES)
def test_an_operation_is_float64_rounded_once(name):
    assert name in interpreter.primitives(jax.make_jaxpr(CASES[name])(*ARGUMENTS))
    with jax.enable_x64(True):
        wide = jax.tree.leaves(CASES[name](*(jnp.asarray(x, jnp.float64) for x in ARGUMENTS)))
    for got, want in zip(jax.tree.leaves(emulated_cases()[name]), wide, strict=True):
        if want.dtype != np.float64:
            np.testing.assert_array_equal(got, want)
        elif name in SEVERAL_ROUNDINGS:
            np.testing.assert_allclose(got, want, rtol=0, atol=2**-11 * 4 * np.abs(want).max())
            np.testing.assert_array_equal(got, round_to(got, "float16"))
        else:
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, np.asarray(round_to(np.asarray(want), "float16")))


REFUSED = {
    "cholesky": lambda A: jnp.linalg.cholesky(A) + 1,
    "lu": lambda A: lax.linalg.lu(A)[0],
    "eigh": lambda A: jnp.linalg.eigh(A)[0],
    "qr": lambda A: jnp.linalg.qr(A)[0],
    "svd": lambda A: jnp.linalg.svd(A)[0],
    "triangular_solve": lambda A: jax.scipy.linalg.solve_triangular(A, A),
    "fft": lambda A: jnp.abs(jnp.fft.rfft(A)),
    "pure_callback": lambda A: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(A.shape, A.dtype), A),
    "debug_callback": lambda A: jax.debug.print("{}", A),
    "complex": lambda A: lax.complex(A, A),
    "nextafter": lambda A: jnp.nextafter(A, A),
    "scatter_apply": lambda A: A.at[0].apply(jnp.sin),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_emulated_is_refused_with_its_name_and_line(name):
    assert name == "scatter_apply" or KINDS[name] in REFUSALS
    here = REFUSED[name].__code__.co_firstlineno
    with pytest.raises(UnsupportedPrimitiveError) as refusal:
        emulate(REFUSED[name], "bfloat16")(jnp.eye(3))
    said = str(refusal.value)
    assert said.startswith("emulate cannot run primitive")
    assert "test_primitives.py" in said
    if name in {"pure_callback", "complex"} or KINDS.get(name) is Kind.OPAQUE:
        assert f"'{name}'" in said or name in {"eigh", "qr", "svd", "fft"}  # made of several that are refused
    assert f":{here}" in said


def test_an_unknown_primitive_is_refused_with_its_name_and_line():
    novel = jex.core.Primitive("novel")
    novel.def_abstract_eval(lambda x: x)
    with pytest.raises(UnsupportedPrimitiveError, match=r"'novel' at .*test_primitives\.py.*not in the table"):
        emulate(lambda x: novel.bind(x) + 1, "bfloat16")(1.0)


def test_integers_are_left_to_jax():
    y = emulate(lambda x, i: x * lax.population_count(i).sum(), "bfloat16")(jnp.ones(2), jnp.arange(4))
    np.testing.assert_array_equal(y, [4.0, 4.0])


@pytest.mark.parametrize("format", ["bfloat16", "float16", "float32"])
def test_extremes_scattered_and_diagonals_are_exact_in_every_carrier(format):
    """`scatter-max` holds a comparison typed for the program; `diag` asks for its platform."""
    x, A = jnp.array([1.0, -2.0, 3.0]), 2 * jnp.eye(3) + 1
    top = pl.emulate(lambda x: x.at[jnp.array([0, 0])].max(jnp.array([5.0, 4.0])), format)
    assert top(x).tolist() == [5.0, -2.0, 3.0]
    low = pl.emulate(lambda x: jax.ops.segment_min(x, jnp.array([0, 0, 1]), 2), format)
    assert low(x).tolist() == [-2.0, 3.0]
    for diagonal in (jnp.diag, jnp.diagonal):
        assert jax.jit(pl.emulate(lambda A, f=diagonal: f(A) + 1, format))(A).tolist() == [4.0, 4.0, 4.0]


def test_whole_numbers_that_the_format_lacks_are_rounded():
    e2m3 = pl.Format("fp6_e2m3", 4, 0, 2, overflow="saturate")  # its largest number is 7.5
    for f in (jnp.ceil, jnp.round):
        y, events = pl.emulate(f, e2m3, events=True)(jnp.float32(7.5))
        assert (float(y), int(events.overflow)) == (7.5, 1)
    small = pl.Format("small", 3, -5, -2, overflow="saturate")  # 7/16
    assert [float(y) for y in pl.emulate(lambda x: (jnp.sign(x), x**0), small)(jnp.float32(0.25))] == [0.4375, 0.4375]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: jax.lax.reduce_precision(x, 12, 5),
        lambda x: x.at[0].apply(jnp.sin),
    ],
)
def test_formats_without_a_record_are_refused_with_their_line(f):
    with pytest.raises(NotImplementedError) as caught:
        pl.emulate(f, "bfloat16")(jnp.ones(2))
    assert "test_primitives.py" in str(caught.value)
