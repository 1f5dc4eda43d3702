"""The diagnosis room: errors, condition numbers, verdicts, and the judgement of whole functions."""

from fractions import Fraction as Q

import jax
import jax.numpy as jnp
import ml_dtypes
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import precond_lab as pl
from precond_lab import gallery
from precond_lab.diagnosis import (
    Verdict,
    condition_number,
    diagnose,
    direction_cosine,
    forward_error,
    judge,
    projection_condition,
)
from precond_lab.diagnosis.condition import LARGEST_JACOBIAN
from precond_lab.preconditioners import logdet

U64 = 2.0**-53
BFLOAT16 = 2.0**-8


@pytest.fixture(autouse=True)
def _mode_is_left_alone():
    yield
    assert not jax.config.jax_enable_x64


# Errors


@pytest.mark.parametrize(
    ("computed", "exact", "normwise", "componentwise"),
    [
        ([3.0, 4.5], [3.0, 4.0], 0.1, 0.125),
        ([3.0, 4.0], [3.0, 4.0], 0.0, 0.0),
        ([0.0, 4.0], [0.0, 5.0], 0.2, 0.2),
        ([1.0, 4.0], [0.0, 4.0], 0.25, np.inf),
        ([0.0, 0.0], [0.0, 0.0], 0.0, 0.0),
        ([1.0], [0.0], np.inf, np.inf),
        ([np.inf, 1.0], [2.0, 1.0], np.inf, np.inf),
        ([np.nan, 1.0], [2.0, 1.0], np.inf, np.inf),
        ([np.inf, 3.0], [np.inf, 4.0], 0.25, 0.25),
        ([np.nan, 3.0], [np.nan, 4.0], 0.25, 0.25),
        ([-np.inf], [np.inf], np.inf, np.inf),
        ([5.0], [np.inf], np.inf, np.inf),
        ([np.inf], [np.nan], np.inf, np.inf),
        ([], [], 0.0, 0.0),
        ([1e300, 1e-300], [1e300, 2e-300], 0.0, 0.5),
        ([1.5e308], [-1.5e308], 2.0, 2.0),
    ],
)
def test_forward_error(computed, exact, normwise, componentwise):
    for of in (np.array(exact), np.array([mpmath.mpf(x) for x in exact], object)):
        # sqrt and quotient with 50 digits, and one rounding to float64; 1e-600 is as good as nothing here
        assert forward_error(np.array(computed), of) == pytest.approx(normwise, rel=U64, abs=1e-300)
        assert forward_error(np.array(computed), of, "componentwise") == pytest.approx(componentwise, rel=2 * U64)


@given(st.floats(1, 2, exclude_max=True), st.integers(3, 1000))
@settings(max_examples=30, deadline=None)
def test_errors_below_float64_are_seen(x, divisor):
    """The exact result keeps its digits: x / divisor in float64 is off by at most u, and mostly not by zero."""
    with mpmath.workdps(60):
        exact = mpmath.mpf(x) / divisor
    relative = abs(Q(x / divisor) / (Q(x) / divisor) - 1)
    for kind in ("normwise", "componentwise"):
        error = forward_error([x / divisor], np.array([exact], object), kind)
        assert error == pytest.approx(float(relative), rel=2 * U64, abs=1e-49)
        assert error <= U64
    assert forward_error([float(exact)], np.array([exact], object), digits=15) <= 1e-14


def test_errors_of_pytrees():
    computed = {"a": jnp.array([3.0]), "b": (np.float32(4.5), jnp.array([7])), "c": jnp.array([True])}
    exact = {"a": np.array([3.0]), "b": (np.array(mpmath.mpf(4), object), np.array([9])), "c": np.array([False])}
    assert forward_error(computed, exact) == 0.1  # integers and booleans are not judged
    low = jnp.array([1.0, 2.0], jnp.bfloat16), np.array([4.0], ml_dtypes.float8_e4m3fn)
    assert forward_error(low, (np.array([1.0, 2.0]), np.array([2.0]))) == 2 / 3


def test_errors_are_paired_leaf_by_leaf():
    """Integers of one side are numbers; they are not left out, which would pair what follows wrongly."""
    assert forward_error([3.0, 4], [3, 4.5]) == pytest.approx(0.5 / 29.25**0.5, rel=2 * U64)
    assert forward_error((np.float32(3), np.float32(4.5)), (3, 4)) == 0.1
    assert forward_error(np.array([3.0, 4.5]), [3, 4]) == forward_error([3.0, 4.5], np.array([3, 4])) == 0.1
    assert forward_error(np.array([2.0**60]), [2**60 + 1]) == pytest.approx(2.0**-60, rel=1e-15)
    assert direction_cosine([3.0, 4], [1, 0.0]) == pytest.approx(0.6, abs=U64)


def test_misuse_of_errors_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) .* \(3,\): compare like with like"):
        forward_error([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"structure .*'a'.* exact one .*'b'.*: compare like with like"):
        forward_error({"a": 1.0}, {"b": 1.0})
    with pytest.raises(ValueError, match="only real numbers"):
        forward_error(np.ones(1), np.ones(1, complex))
    with pytest.raises(ValueError, match="choose 'normwise' or 'componentwise'"):
        forward_error([1.0], [1.0], "entrywise")  # pyright: ignore


@pytest.mark.parametrize(
    ("u", "v", "cosine"),
    [
        ([1.0, 0.0], [0.0, 3.0], 0.0),
        ([1.0, 2.0], [2.0, 4.0], 1.0),
        ([1.0, 2.0], [-1.0, -2.0], -1.0),
        ([3.0, 4.0], [1.0, 0.0], 0.6),
        ([1e-320, 0.0], [1e300, 0.0], 1.0),
        ([3e-200, 4e-200], [7e250, 0.0], 0.6),
        ({"a": [3.0], "b": [4.0]}, {"a": [1.0], "b": [0.0]}, 0.6),
    ],
)
def test_direction_cosine(u, v, cosine):
    u, v = (jax.tree.map(np.float64, x) for x in (u, v))
    for pair in ((u, v), (v, u), (u, jax.tree.map(lambda x: np.array(mpmath.mpf(x), object), v))):
        # scaling by the largest entry, two norms and a product: a few units, subnormal entries being exact here
        assert direction_cosine(*pair) == pytest.approx(cosine, abs=8 * U64)
    assert abs(direction_cosine(u, u)) <= 1


@pytest.mark.parametrize("other", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_no_direction_has_no_cosine(other):
    assert np.isnan(direction_cosine([1.0, 1.0], other))
    assert np.isnan(direction_cosine(other, [1.0, 1.0]))


# Condition numbers


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_condition_of_a_linear_map(seed):
    """||A|| ||x|| / ||A x||, and max |A| |x| / |A x|; at the worst right-hand side the condition number of A itself."""
    rng = np.random.default_rng(seed)
    A, x = gallery.spd(5, condition=1e4, seed=seed), rng.standard_normal(5)
    tolerance = 100 * U64 * 1e4  # A x may cancel as far as A is singular
    normwise = np.linalg.norm(A, 2) * np.linalg.norm(x) / np.linalg.norm(A @ x)
    assert condition_number(lambda v: A @ v, x) == pytest.approx(normwise, rel=tolerance)
    componentwise = np.max(np.abs(A) @ np.abs(x) / np.abs(A @ x))
    assert condition_number(lambda v: A @ v, x, kind="componentwise") == pytest.approx(
        componentwise, rel=tolerance * componentwise
    )
    weakest = np.linalg.eigh(A)[1][:, 0]
    assert condition_number(lambda v: A @ v, weakest) == pytest.approx(1e4, rel=tolerance)
    assert condition_number(lambda m, v: m @ v, A, x) > condition_number(lambda v: A @ v, x)


@given(st.floats(0.5, 2), st.integers(-6, 6))
@settings(max_examples=5, deadline=None)
def test_condition_of_a_power_is_the_exponent(x, n):
    for kind in ("normwise", "componentwise"):
        assert condition_number(lambda v: v**n, x, kind=kind) == pytest.approx(abs(n), rel=16 * U64)


@pytest.mark.parametrize(
    ("f", "args", "kind", "expected"),
    [
        (lambda x: x[0] - x[1], ([1.25, 1.0],), "componentwise", 9.0),
        (lambda x: x[0] + x[1], ([1.25, 1.0],), "componentwise", 1.0),
        (lambda a, b: a * b, (3.0, 5.0), "componentwise", 2.0),
        (lambda x: x * 0, ([1.0, 2.0],), "normwise", 0.0),
        (lambda x: x[0] - x[1], ([1.0, 1.0],), "normwise", np.inf),
        (lambda x: x[0] - x[1], ([1.0, 1.0],), "componentwise", np.inf),
        (lambda x: 1 / x, ([0.0],), "normwise", np.inf),
        (jnp.sqrt, ([0.0],), "componentwise", np.inf),
        (jnp.exp, ([3.0],), "componentwise", 3.0),
        (jnp.log, ([4.0],), "componentwise", 1 / np.log(4.0)),
    ],
)
def test_condition_of_elementary_functions(f, args, kind, expected):
    args = [np.array(x) for x in args]
    assert condition_number(f, *args, kind=kind) == pytest.approx(expected, rel=16 * U64)


@given(st.sampled_from([2, 5]), st.floats(1.5, 20).map(lambda k: 2.0**k), st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_condition_of_the_projection_is_the_closed_form(n, condition, seed):
    """(3 + beta^2) / (1 - beta^2) at its largest over the edges, for the band of the explicit X."""
    H = gallery.chain_by_condition(n, condition=condition, seed=seed)

    def band(diagonal, edge):
        X = logdet.explicit(logdet.project(jnp.stack([diagonal, jnp.append(edge, 0)])))
        return X[0], X[1, :-1]

    numeric = condition_number(band, H[0], H[1, :-1], kind="componentwise")
    closed = projection_condition(H)
    # The derivative is taken through s, which loses kappa u twice.
    assert numeric == pytest.approx(closed.all_entries, rel=max(1e-10, 20 * closed.bound * U64))
    off_diagonal = condition_number(lambda e: band(jnp.asarray(H[0]), e)[1], H[1, :-1], kind="componentwise")
    assert off_diagonal == pytest.approx(closed.off_diagonal, rel=max(1e-10, 20 * closed.bound * U64))


def test_condition_holds_integers_fixed():
    def f(tree, k, flag):
        return {"power": jnp.asarray(tree["x"]) ** k, "count": tree["n"] + 1, "flag": flag}

    tree = {"x": np.float32([2.0]), "n": jnp.array(3)}
    assert condition_number(f, tree, 5, True) == 5.0
    assert condition_number(lambda x, *, k: x**k, 2.0, k=3) == 3.0
    assert condition_number(lambda x: (x, 1.0), 3.0, kind="componentwise") == 1.0  # a constant result moves not


def test_condition_of_programs_that_pin_their_dtypes():
    def total(x):
        return jax.lax.scan(lambda s, v: (s + v, None), jnp.float32(0), x)[0]

    assert condition_number(total, np.float32([1.0, -0.5]), kind="componentwise") == 3.0
    assert diagnose(total, np.float32([1.0, -0.5])).verdict is Verdict.ACCURATE


def test_misuse_of_condition_is_refused():
    with pytest.raises(ValueError, match="choose 'normwise' or 'componentwise'"):
        condition_number(jnp.sin, 1.0, kind="mixed")  # pyright: ignore
    with pytest.raises(ValueError, match="found none"):
        condition_number(lambda k: k + 1, 3)
    with pytest.raises(ValueError, match="found none"):
        condition_number(lambda x: x > 0, 3.0)
    n = int(LARGEST_JACOBIAN**0.5) + 1
    with pytest.raises(ValueError, match=rf"{n} x {n} entries.*smaller input"):
        condition_number(jnp.sin, np.ones(n))


# Verdicts


def test_verdicts_are_strings_with_prose():
    assert [str(v) for v in Verdict] == ["accurate", "conditioning", "unstable", "breakdown"]
    assert all(v.prose.endswith(".") and len(v.prose) > 40 for v in Verdict)
    assert len({v.prose for v in Verdict}) == 4
    assert "rounding the inputs once more" in Verdict.CONDITIONING.prose
    assert "If they were rounded when they were stored, no algorithm" in Verdict.CONDITIONING.prose
    assert Verdict("unstable") is Verdict.UNSTABLE
    assert f"{Verdict.BREAKDOWN}" == "breakdown" == Verdict.BREAKDOWN
    with pytest.raises(ValueError, match="wobbly"):
        Verdict("wobbly")


@pytest.mark.parametrize(
    ("error", "condition", "finite", "verdict"),
    [
        (0.0, 1.0, True, "accurate"),
        (10 * BFLOAT16, 1.0, True, "accurate"),
        (10.01 * BFLOAT16, 1.0, True, "unstable"),
        (10.01 * BFLOAT16, 2.0, True, "conditioning"),
        (20 * BFLOAT16, 2.0, True, "conditioning"),
        (20.01 * BFLOAT16, 2.0, True, "unstable"),
        (10 * BFLOAT16, 0.0, True, "accurate"),
        (1e6, np.inf, True, "conditioning"),
        (np.inf, np.inf, True, "conditioning"),
        (np.inf, 1e9, True, "unstable"),
        (np.nan, 1.0, True, "breakdown"),
        (np.inf, 1.0, False, "breakdown"),
        (0.0, 1.0, False, "breakdown"),
    ],
)
def test_judge(error, condition, finite, verdict):
    assert judge(error, condition, BFLOAT16, finite) is Verdict(verdict)


# Whole functions

N1 = np.array([[1.7890625, 1.59375, 2.0], [1.6875, 0.5, 0.0]])
N6 = np.array([[1.03125, 3.546875], [1.90625, 0.0]])
ONES = np.ones(4096, np.float32)

TABLE = {
    "a sum of 4096 ones stops at 256": (jnp.sum, (ONES,), "bfloat16", "unstable", ()),
    "and does not in float32": (jnp.sum, (ONES,), pl.Arithmetic("bf16", accumulate="float32"), "accurate", ()),
    "a difference of rounded numbers": (
        lambda x: x[0] - x[1],
        (np.array([1.001, 1.0]),),
        "bfloat16",
        "conditioning",
        (),
    ),
    "a product": (lambda x: x[0] * x[1], (np.array([1.1, 3.3]),), "bfloat16", "accurate", ()),
    "a pivot that becomes zero": (logdet.project, (N6,), "bfloat16", "breakdown", ("divide_by_zero",)),
    "a pivot that changes its sign": (logdet.project, (N1,), "bfloat16", "conditioning", ()),
    "a square beyond the range": (jnp.square, (np.array([300.0]),), "float16", "breakdown", ("overflow",)),
    "the same where the range is wide": (jnp.square, (np.array([300.0]),), "bfloat16", "accurate", ()),
    "a divisor that underflows": (
        lambda x: x / x**2,
        (np.array([2.0**-13]),),
        "float16",
        "breakdown",
        ("underflow", "divide_by_zero"),
    ),
    "one less a cosine near one": (
        lambda x: (1 - jnp.cos(x)) / x**2,
        (np.array([0.0625]),),
        "bfloat16",
        "unstable",
        (),
    ),
    "a custom format": (jnp.square, (np.array([3.0]),), pl.Format("tiny", 3, -2, 2), "breakdown", ("overflow",)),
}


@pytest.mark.parametrize("name", TABLE)
def test_verdicts_on_functions(name):
    f, args, arithmetic, verdict, events = TABLE[name]
    d = diagnose(f, *args, arithmetic=arithmetic)
    assert d.verdict is Verdict(verdict)
    assert all(getattr(d.events, event) > 0 for event in events)
    assert {k for k, count in d.events._asdict().items() if count} == set(events)
    assert d.truncation_error is None
    assert d.attainable == d.condition * d.arithmetic.unit_roundoff
    assert d.verdict is judge(d.rounding_error, d.condition, d.arithmetic.unit_roundoff, verdict != "breakdown")
    if np.isfinite(d.rounding_error):
        assert d.amplification == d.rounding_error / max(d.attainable, d.arithmetic.unit_roundoff)
    lines = str(d).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 20
    assert lines[0] == f"{verdict.upper()} in {d.arithmetic}"
    for label in ("rounding error", "attainable", "amplification", "condition", "unit roundoff", "events"):
        assert any(line.startswith(f"  {label} ") for line in lines), label
    assert f"{d.rounding_error:.3g}" in str(d)
    assert f"{d.condition:.3g}" in str(d)
    assert all(event.replace("_", " ") in lines[-1] for event in events)
    assert events or "none" in lines[-1]


def test_the_error_of_the_long_sum_is_exact():
    d = diagnose(jnp.sum, ONES)
    assert (d.rounding_error, d.condition) == (1 - 256 / 4096, pytest.approx(1.0, rel=4 * U64))
    assert d.computed.dtype == jnp.float32
    assert (float(d.computed), int(d.exact.item())) == (256.0, 4096)


def test_kinds_of_error():
    f = lambda x: jnp.stack([x[0] - x[1], 1000 * x[0]])  # noqa: E731
    x = np.array([1.25 + 2.0**-9, 1.25])
    assert diagnose(f, x, kind="normwise").rounding_error <= BFLOAT16
    d = diagnose(f, x, kind="componentwise")
    assert d.rounding_error == 1.0  # the difference is lost
    assert d.verdict is Verdict.CONDITIONING
    assert "componentwise" in str(d)


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (lambda x: np.array(mpmath.exp(float(x)), object), 0.005),
        (np.e, 0.005),
        (np.array(mpmath.mpf(8) / 3, object), 0.02),
    ],
)
def test_truncation_error(target, error):
    """1 + x + x^2/2 + x^3/6 at 1 against the exponential: 1 - (8/3)/e = 0.0190."""
    series = lambda x: 1 + x * (1 + x / 2 * (1 + x / 3))  # noqa: E731
    d = diagnose(series, 1.0, target=target, arithmetic="float32")
    if error == 0.02:
        assert d.truncation_error <= U64  # 8/3 at 53 bits
    else:
        with mpmath.workdps(30):
            assert d.truncation_error == pytest.approx(float(1 - mpmath.mpf(8) / 3 / mpmath.e), rel=1e-13)
    assert d.verdict is Verdict.ACCURATE  # of what the arithmetic did; the truncation is not its fault
    assert "truncation error" in str(d)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("arithmetic", ["float8_e4m3fn", "bfloat16", "float16", "float32", "float64"])
def test_the_dtype_of_the_input_does_not_limit_the_arithmetic(dtype, arithmetic):
    """A product of three numbers with short significands, in every dtype that holds them: (1 + u)^2 - 1 at the most."""
    x = jnp.asarray([1.25, 1.75, 1.125]) if dtype is np.float32 else np.array([1.25, 1.75, 1.125], dtype)
    d = diagnose(lambda v: v[0] / v[1] / v[2], x, arithmetic=arithmetic)
    u = pl.formats.named(arithmetic).unit_roundoff
    assert 0 < d.rounding_error <= 2 * u + u * u
    assert d.verdict is Verdict.ACCURATE


def test_pytrees_and_integers():
    def f(tree, k):
        return {"sum": tree["a"] + tree["b"][0], "index": k + 1}

    d = diagnose(f, {"a": jnp.array([1.5, 2.0]), "b": (np.array([0.25, 0.5]),)}, 3)
    assert d.verdict is Verdict.ACCURATE
    assert (d.rounding_error, int(d.computed["index"]), int(d.exact["index"])) == (0.0, 4, 4)


def test_a_result_without_a_correct_bit_is_not_accurate():
    """In float8_e5m2 10 u is 1.25."""
    assert judge(0.5, 1.0, 2.0**-3) is Verdict.ACCURATE
    assert judge(0.51, 2.0, 2.0**-3) is Verdict.CONDITIONING
    assert judge(1.3, 1.0, 2.0**-3) is Verdict.UNSTABLE


def test_rounding_that_is_not_to_nearest_has_twice_the_unit():
    d = diagnose(jnp.square, 1.1, arithmetic=pl.Arithmetic("float16", rounding="toward_zero"))
    assert d.attainable == pytest.approx(d.condition * 2.0**-10)
    assert str(d).splitlines()[0] == "ACCURATE in float16 (toward_zero)"


@pytest.mark.parametrize(
    ("f", "x"), [(lambda x: 1 / x, [0.0, 1.0]), (jnp.sqrt, [-1.0, 4.0]), (lambda x: 2 * x, [np.nan, 1.0])]
)
def test_a_point_outside_of_the_domain_has_no_verdict(f, x):
    with pytest.raises(ValueError, match=r"outside of the function's domain: 1 of the 2 entries.*give arguments"):
        diagnose(f, np.array(x))


def test_keyword_arguments_go_to_the_function():
    def f(x, *, scale, power):
        return scale * x**power

    more = {"scale": np.array([0.1, 10.0]), "power": 2}
    for arithmetic in ("bfloat16", "float64"):
        d = diagnose(f, np.array([1.5, 3.0]), arithmetic=arithmetic, target=f, **more)
        assert d.exact.astype(float) == pytest.approx([0.225, 90.0])
        assert d.verdict is Verdict.ACCURATE
        assert d.truncation_error <= 4 * U64
        assert d.condition == condition_number(f, np.array([1.5, 3.0]), **more)


def test_a_target_may_hold_integers():
    d = diagnose(lambda x: 2 * x, np.array([1.0, 2.0]), target=[2, 4])
    assert d.truncation_error == 0.0
    assert diagnose(lambda x: 2 * x, np.array([1.0, 2.0]), target=np.array([2, 5])).truncation_error > 0.1


def test_misuse_of_diagnose_is_refused():
    with pytest.raises(TypeError, match="expected an Arithmetic"):
        diagnose(jnp.sin, 1.0, arithmetic=16)  # pyright: ignore
    with pytest.raises(ValueError, match=r"no format is named 'bfloat'; did you mean"):
        diagnose(jnp.sin, 1.0, arithmetic="bfloat")
    with pytest.raises(ValueError, match="unknown kind"):
        diagnose(jnp.sin, 1.0, kind="relative")  # pyright: ignore
    with pytest.raises(ValueError, match="found none"):
        diagnose(lambda x: x > 0, 1.0)
    with pytest.raises(ValueError, match="compare like with like"):
        diagnose(jnp.sin, 1.0, target=np.zeros(2))
    with pytest.raises(NotImplementedError, match="cholesky"):
        diagnose(jnp.linalg.cholesky, np.eye(2))


def test_the_room_names_what_it_has():
    assert pl.diagnose is diagnose
    assert pl.condition_number is condition_number
    with pytest.raises(AttributeError, match="no attribute 'prognosis'"):
        _ = pl.diagnosis.prognosis
