"""The benchmarks run, and their tables have their rows. No time is ever asserted."""

import csv
import ctypes
import importlib
import os
import sys
import time
from fractions import Fraction
from itertools import product
from pathlib import Path

import jax
import numpy as np
import pytest

from precond_lab import Arithmetic
from precond_lab.arithmetic import formats
from precond_lab.arithmetic.rounding import ROUNDINGS

BENCHMARKS = Path(__file__).parents[1] / "studies" / "benchmarks"
MODULES = [file.stem for file in BENCHMARKS.glob("*.py")]
FEW = {name: formats.NAMED[name] for name in ("float16", "float8_e4m3fn")}
FEW_ROUNDINGS = {name: ROUNDINGS[name] for name in ("nearest_even", "toward_zero", "stochastic")}
DETERMINISTIC = [name for name, mode in ROUNDINGS.items() if not mode.random]


@pytest.fixture
def benchmark(monkeypatch):
    """Import a benchmark as the command does, with its own folder first on the path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def caches_kept(monkeypatch):
    """Spare the other tests of this process the cold compilations that a benchmark asks for, and its settings."""
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    enabled = jax.config.jax_enable_compilation_cache  # pyright: ignore
    yield
    jax.config.update("jax_enable_compilation_cache", enabled)


def rows_of(file):
    with file.open() as opened:
        return list(csv.DictReader(opened))


# First light


def test_first_light_fills_its_table(benchmark, caches_kept, monkeypatch, tmp_path, capsys):
    first_light = benchmark("first_light")
    tiny = first_light.Scale(rounding=(8, 16), wide=8, programs=(8,), product=4, rounds=1)
    monkeypatch.setattr(first_light, "QUICK", tiny)
    few = {name: first_light.ARITHMETICS[name] for name in list(first_light.ARITHMETICS)[1:3]}
    monkeypatch.setattr(first_light, "ARITHMETICS", few)
    monkeypatch.setattr(first_light.formats, "NAMED", FEW)
    monkeypatch.setattr(first_light, "ROUNDINGS", FEW_ROUNDINGS)
    first_light.main(["--quick", "--output", str(tmp_path)])

    page = next(tmp_path.glob("*-cpu.md")).read_text()
    assert page == capsys.readouterr().out.removesuffix("\n")
    for section in first_light.SECTIONS:
        assert f"## {section.title}\n" in page
    for row in [first_light.COPY, first_light.NATIVE, *few]:
        assert f"| {row} |" in page
    for format in FEW:
        for rounding in FEW_ROUNDINGS:
            assert page.count(f"| {format}, {rounding} |") == 2  # from float32, and from float64
    rows = rows_of(next(tmp_path.glob("*-cpu.csv")))
    assert {row["section"] for row in rows} == {section.title for section in first_light.SECTIONS}
    assert {row["column"] for row in rows if row["section"] == first_light.SECTIONS[0].title} == {"8", "16"}
    baselines = {first_light.COPY, first_light.NATIVE}
    assert all(float(row["ratio"]) == 1 for row in rows if row["case"] in baselines)


def test_times_are_compared_within_a_round(benchmark):
    measure = benchmark("measure")
    seconds = {"base": iter([1.0, 2.0, 10.0]), "other": iter([2.0, 4.0, 5.0])}
    samplers = {name: times.__next__ for name, times in seconds.items()}
    timings = measure.interleaved(samplers, "base", rounds=3)
    assert timings["base"] == (2.0, 1.0, 1.0, 1.0)
    assert timings["other"] == (4.0, 2.0, 1.25, 2.0)


def test_a_donated_buffer_is_handed_on(benchmark):
    measure = benchmark("measure")
    buffer = measure.Buffer(jax.numpy.arange(4.0))
    call = buffer.through(lambda x: x + 1)
    first, place = call(), buffer.x.unsafe_buffer_pointer()
    assert call() is buffer.x
    assert buffer.x.tolist() == [2, 3, 4, 5]
    assert buffer.x.unsafe_buffer_pointer() == place
    assert first.is_deleted()


def test_a_process_is_pinned_to_its_first_cores(benchmark, monkeypatch):
    measure, kept = benchmark("measure"), []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 3, 9} if not kept else kept[-1])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: kept.append(cores))
    assert measure.pin(0) == 3
    assert not kept
    assert measure.pin(2) == 2
    assert kept == [[3, 5]]


# Arithmetic


def wrong_rounder(x):
    return x * 0


def slow_rounder(x):
    time.sleep(1e-3)
    return x


@pytest.fixture
def arithmetic(benchmark, caches_kept, monkeypatch):
    """The benchmark with a few small cases, and with peers one of which is wrong and one slow."""
    module = benchmark("arithmetic")
    rounding, programs, blocks = module.rounding, module.programs, module.blocks
    exactness, targets, peers = module.exactness, benchmark("targets"), benchmark("peers")
    monkeypatch.setattr(rounding, "NAMED", FEW)
    for part in (rounding, targets):
        monkeypatch.setattr(part, "ROUNDINGS", FEW_ROUNDINGS)
    monkeypatch.setattr(exactness, "MODES", ["nearest_even", "toward_zero"])
    for part in (rounding, programs, blocks, exactness):
        monkeypatch.setattr(part, "JUDGED", ("float8_e4m3fn",))
    few = {name: programs.ARITHMETICS[name] for name in (programs.DEFAULT, programs.FAST, "float16")}
    for part in (programs, targets):
        monkeypatch.setattr(part, "ARITHMETICS", few)
        monkeypatch.setattr(part, "LENGTHS", (2,))
    pairwise = {"pairwise": Arithmetic("float16", order="pairwise")}
    monkeypatch.setattr(programs, "product_arithmetics", lambda: few | pairwise)
    monkeypatch.setattr(programs, "iteration_arithmetics", lambda: {"float16": few["float16"]})
    compiled = programs.compiled_programs
    monkeypatch.setattr(programs, "compiled_programs", lambda scale: dict([next(iter(compiled(scale).items()))]))
    kinds = (blocks.MX_CASE, blocks.ROW_CASE)
    monkeypatch.setattr(blocks, "QUANTIZATIONS", {name: blocks.QUANTIZATIONS[name] for name in kinds})
    wrong = peers.Peer("wrong", "rounds to zero", "numpy", lambda format, rounding: wrong_rounder)
    slow = peers.Peer("slow", "does nothing", "numpy", lambda format, rounding: slow_rounder, dtypes=("float32",))
    found = peers.Found([wrong, slow], {"numpy": "2"}, {"absent": "it is not installed"})
    monkeypatch.setattr(module, "find", lambda: found)
    sizes = module.RoundingScale(sizes=(1024, 2048), wide=1024, rounds=1, patience=0.05)
    small = module.ProgramScale(
        chain=16,
        short_chain=8,
        products=(4, 8),
        peer_product=4,
        iteration=4,
        steps=2,
        rounds=1,
        patience=60.0,
        long_patience=60.0,
    )
    monkeypatch.setattr(module, "QUICK", module.Scale(sizes, small, sums=64))
    return module


def test_arithmetic_fills_its_page(arithmetic, tmp_path, capsys):
    arithmetic.main(["--quick", "--cores", "0", "--output", str(tmp_path)])

    page = next(tmp_path.glob("*-arithmetic-cpu.md")).read_text()
    assert page == capsys.readouterr().out.removesuffix("\n")
    assert page.index("## Targets") < page.index("## Wrong roundings") < page.index("## Chains of operations")
    sections = {text.partition("\n")[0]: text.splitlines() for text in page.split("\n## ")[1:]}
    verdicts = [line.split("|")[-2].strip() for line in sections["Targets"] if line.startswith("| ")][1:]
    assert len(verdicts) == 7
    assert all(verdict in {"yes", "no"} or " of " in verdict for verdict in verdicts)
    assert "- Not here: absent (it is not installed)." in sections["How it was measured"]

    rows = rows_of(next(tmp_path.glob("*-arithmetic-cpu.csv")))
    assert {row["section"] for row in rows} == set(sections) - {"Targets", "How it was measured", "Wrong roundings"}
    every = [row for row in rows if row["section"].startswith("Every format")]
    assert {(row["case"], row["column"]) for row in every} == set(product(FEW, ["copy", *FEW_ROUNDINGS]))
    baselines = [row for row in rows if row["case"].startswith(("copy", "native")) or row["column"] == "copy"]
    assert len(baselines) > 10
    assert all(float(row["ratio"]) == 1 for row in baselines)

    beside = next(lines for title, lines in sections.items() if title.startswith("Beside other libraries, float32"))
    cells = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in beside if line.startswith("| ")}
    assert cells["wrong"].endswith("*")
    assert cells["slow"] == arithmetic.SLOW
    assert not cells["precond_lab"].endswith("*")

    judged = rows_of(next(tmp_path.glob("*-exactness.csv")))
    assert {row["case"] for row in judged} == {"precond_lab", "wrong", "slow"}
    assert {row["what"] for row in judged} == {"array", "sum"}
    for row in judged:
        assert (row["wrong"] == "0") == (row["case"] == "precond_lab")
        assert bool(row["example"]) == (row["case"] != "precond_lab")


@pytest.mark.parametrize(("bound", "verdict"), [(0.5, "yes"), (2.0, "1 of 2"), (3.0, "no")])
def test_targets_are_judged_by_the_figures_of_the_run(benchmark, monkeypatch, bound, verdict):
    targets, measure = benchmark("targets"), benchmark("measure")

    def rates(run):
        return {case: targets.rate(entry) for (_, case, _), entry in run.items()}

    at_least = targets.Target("speed", bound, False, " G/s", rates)
    at_most = targets.Target("time", 4.0, True, "x", lambda run: {"one": 4.0})
    monkeypatch.setattr(targets, "targets", lambda titles: [at_least, at_most])
    slow, quick = (
        measure.Entry("all", name, "", 1.0, measure.Timing(t, 1, 1, 1)) for name, t in [("a", 1), ("b", 0.5)]
    )
    lines = targets.target_table([quick, slow], titles=None)
    assert lines[2:] == [
        f"| speed | at least {bound:g} G/s | a 1 G/s; b 2 G/s | {verdict} |",
        "| time | at most 4x | one 4x | yes |",
    ]


# Peers


def test_peers_that_are_here_round_right_or_are_known_not_to(benchmark):
    exactness, peers = benchmark("arithmetic_exactness"), benchmark("peers")
    found = peers.find()
    assert {"jax", "gfloat"} <= set(found.versions)
    assert not set(found.versions) & set(found.missing)
    by_name = {peer.name: peer for peer in found.peers}
    single = np.dtype(np.float32)
    for name in ("jnp.astype, jitted", "ml_dtypes on NumPy", "gfloat on NumPy"):
        for format in ("float8_e4m3fn", "float8_e5m2"):
            assert exactness.judge(by_name[name], formats.named(format), "nearest_even", single).wrong == 0
    flushing = exactness.judge(
        by_name["lax.reduce_precision, jitted"], formats.named("float16"), "nearest_even", single
    )
    assert flushing.wrong > 0
    assert "gives 0.0" in flushing.example


def test_a_sum_rounded_twice_is_found_out(benchmark):
    exactness, peers = benchmark("arithmetic_exactness"), benchmark("peers")
    composed = next(peer for peer in peers.gfloat_peers() if peer.kind == "numpy")
    count = 2000
    assert exactness.judge_sums(composed, "nearest_even", count).wrong == 0
    assert exactness.judge_sums(composed, "toward_zero", count).wrong > count // 100
    for rounding in DETERMINISTIC:
        assert exactness.judge_sums(exactness.ours(), rounding, count).wrong == 0


def test_formats_that_two_numbers_describe(benchmark):
    peers = benchmark("peers")
    described = {name for name, format in formats.NAMED.items() if peers.ieee_bits(format)}
    assert {"float16", "bfloat16", "tfloat32", "float32", "float8_e5m2", "float8_e4m3"} <= described
    assert not described & {"float8_e4m3fn", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn"}
    assert peers.ieee_bits(formats.named("float16")) == (5, 10)


class Library:
    """Stands for CPFloat's library: reads the options that it is given, and rounds by the definition."""

    def __init__(self, oracle, off_by=0):
        self.oracle, self.off_by = oracle, off_by
        self.cpfloatf, self.cpfloat = self.entry(np.float32), self.entry(np.float64)

    def entry(self, dtype):
        def call(result, x, size, options):
            options = options._obj
            format = formats.Format("given", options.precision + self.off_by, options.emin, options.emax)
            rounding = {1: "nearest_even", 4: "toward_zero"}[options.round]
            array = ctypes.c_float if dtype == np.float32 else ctypes.c_double
            view = [np.ctypeslib.as_array((array * size.value).from_address(end.value)) for end in (result, x)]
            view[0][:] = self.oracle(view[1], format, rounding)

        return call


def test_cpfloat_is_given_the_format_and_the_mode(benchmark, monkeypatch):
    cpfloat, oracle = benchmark("cpfloat"), benchmark("rounding_oracle").oracle
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Library(oracle))
    library, x = cpfloat.CPFloat("somewhere"), np.float32([1.3, -70000, 3e-8])
    for name in ("float16", "bfloat16"):
        for rounding in ("nearest_even", "toward_zero"):
            right = oracle(x, formats.named(name), rounding)
            assert library.rounder(formats.named(name), rounding)(x).tolist() == right.tolist()
    assert library.rounder(formats.named("float8_e4m3fn"), "nearest_even") is None


def test_a_cpfloat_that_rounds_otherwise_is_refused(benchmark, monkeypatch):
    cpfloat, oracle = benchmark("cpfloat"), benchmark("rounding_oracle").oracle
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Library(oracle, off_by=1))
    with pytest.raises(RuntimeError, match="layout"):
        cpfloat.CPFloat("somewhere")


# The definition


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("format", [name for name, format in formats.NAMED.items() if format.bits <= 8 and format.zero])
def test_the_definition_agrees_with_gfloat(benchmark, format, dtype):
    oracle, peers = benchmark("rounding_oracle"), benchmark("peers")
    record = formats.named(format)
    x = oracle.boundaries(record, np.dtype(dtype))
    judge = next(peer for peer in peers.gfloat_peers() if peer.kind == "numpy")
    for rounding in peers.GFLOAT_MODES:
        if rounding == "stochastic":
            continue
        ours, theirs = oracle.oracle(x, record, rounding), judge.apply(judge.rounder(record, rounding), x)
        same = (ours == theirs) & (np.signbit(ours) == np.signbit(theirs)) | np.isnan(ours) & np.isnan(theirs)
        # gfloat's infinities saturate where overflow does; the table's formats with infinities never saturate.
        assert same.all(), (rounding, x[~same][:3], ours[~same][:3], theirs[~same][:3])


def test_the_definition_rounds_to_odd_by_the_code(benchmark):
    oracle = benchmark("rounding_oracle").oracle
    record = formats.named("float8_e5m2")
    between = np.float32([1.1, 1.3, -1.1, 2.0**-18, 60000])
    assert oracle(between, record, "odd").tolist() == [1.25, 1.25, -1.25, 2.0**-16, 57344]
    scales = formats.named("float8_e8m0fnu")  # codes of 2**-127 and on: 1 has the odd code 127
    assert oracle(np.float32([1.5, 3, 0, -1, 2.0**-140]), scales, "odd").tolist()[:2] == [1, 4]
    assert np.isnan(oracle(np.float32([0, -1]), scales, "odd")).all()


@pytest.mark.parametrize("format", ["float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz"])
def test_operations_are_rounded_from_the_exact_result(benchmark, format):
    oracle, record = benchmark("rounding_oracle"), formats.named(format)
    a, b = oracle.pairs(record)
    assert a.size == np.unique(a.view(np.uint32)).size ** 2
    chosen = np.random.default_rng(0).choice(np.flatnonzero(np.isfinite(a) & np.isfinite(b) & (b != 0)), 300)
    a, b = a[chosen], b[chosen]
    exact = {
        "add": [Fraction(float(x)) + Fraction(float(y)) for x, y in zip(a, b, strict=True)],
        "div": [Fraction(float(x)) / Fraction(float(y)) for x, y in zip(a, b, strict=True)],
    }
    for name, values in exact.items():
        low, high = (oracle.operate(name, a, b, record, rounding) for rounding in ("down", "up"))
        for value, below, above in zip(values, low, high, strict=True):
            if record.min <= value <= record.max and np.isfinite(below) and np.isfinite(above):
                assert below <= value <= above
                assert (below == value) == (above == value)
                around = oracle.oracle(np.nextafter([below, above], [np.inf, -np.inf]), record, "nearest_even")
                assert set(around) <= {below, above}


# The device

DEVICE_CHECKS = {"check_rounding", "check_random_rounding", "check_operations", "check_blocks", "check_programs"}


@pytest.fixture
def device(benchmark, monkeypatch):
    module, checks = benchmark("device"), benchmark("device_checks")
    few = {"float8_e4m3fn": formats.NAMED["float8_e4m3fn"], "float4_e2m1fn": formats.NAMED["float4_e2m1fn"]}
    monkeypatch.setattr(module, "QUICK", module.Scale(patterns=64, timed=16, rounds=1))
    monkeypatch.setattr(module, "NAMED", few)
    monkeypatch.setattr(checks, "NAMED", few)
    monkeypatch.setattr(module, "ROUNDINGS", FEW_ROUNDINGS)
    monkeypatch.setattr(checks, "DETERMINISTIC", ["nearest_even", "down"])
    monkeypatch.setattr(checks, "QUANTIZATIONS", checks.QUANTIZATIONS[:1])
    monkeypatch.setattr(checks, "PROGRAMS", {"a b + c": (checks.ELEMENTWISE["a b + c"], [checks.COUNTED])})
    monkeypatch.setattr(module, "LENGTHS", (2,))
    monkeypatch.setattr(module, "ARITHMETICS", {"float16": Arithmetic("float16")})
    return module


def test_device_check_passes_here(device, tmp_path, capsys):
    assert device.main(["--quick", "--output", str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert next(tmp_path.glob("*-device-*.md")).read_text() == page.removesuffix("\n")
    # two carriers of two formats in two modes and a random one, and random words; two formats' operations in two
    # modes; a quantization; a program
    assert page.count("| PASS |") == 2 * (2 * (2 + 1) + 1) + 2 * 2 + 1 + 1
    assert "FAIL" not in page
    for line in ("| float8_e4m3fn, all pairs, add, sub, mul, div, down | 260", "| float16 | ", "Target: at most 1.3"):
        assert line in page


def leave_only(check, device, monkeypatch):
    """Of all comparisons and timings only those of one kind, and the timings that a page cannot be without."""
    for other in DEVICE_CHECKS - {check}:
        monkeypatch.setattr(device, other, lambda *given: [])
    monkeypatch.setattr(device, "measure_rounding", lambda *given: [])


def test_device_check_sees_a_wrong_rounding(device, monkeypatch, capsys):
    leave_only("check_rounding", device, monkeypatch)
    checks = sys.modules["device_checks"]
    right = checks.round_bits
    monkeypatch.setattr(checks, "round_bits", lambda x, *args, **kwargs: right(x, *args, **kwargs) + (x == 3))
    assert device.main(["--quick"]) == 1
    assert "| FAIL | float8_e4m3fn from float32, nearest_even |" in capsys.readouterr().out


def test_device_check_sees_a_wrong_operation(device, monkeypatch, capsys):
    leave_only("check_operations", device, monkeypatch)
    checks = sys.modules["device_checks"]
    monkeypatch.setitem(checks.OPERATIONS, "mul", lambda a, b: a * b + 0.5)
    assert device.main(["--quick"]) == 1
    assert "| FAIL | float8_e4m3fn, all pairs" in capsys.readouterr().out


def test_device_check_sees_a_program_that_differs(device, monkeypatch, capsys):
    leave_only("check_programs", device, monkeypatch)
    calls, checks = iter(range(2)), sys.modules["device_checks"]
    emulate = checks.emulate

    def differing(f, arithmetic, events=False):
        return (lambda x, y: f(x, y) + next(calls)) if events else emulate(f, arithmetic)

    monkeypatch.setattr(checks, "emulate", differing)
    assert device.main(["--quick"]) == 1
    assert "| FAIL | a b + c |" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_boundaries_hold_every_value_and_midpoint(benchmark, format, dtype):
    checks, oracle = benchmark("device_checks"), benchmark("rounding_oracle")
    record, dtype = formats.named(format), np.dtype(dtype)
    found = set(oracle.boundaries(record, dtype).tolist())
    codes = np.arange(256, dtype=np.uint8).view(checks.ml_dtype(record)).astype(dtype)
    values = np.unique(codes[np.isfinite(codes)])
    assert values.size == record.finite_values
    assert found >= set(values.tolist())
    midpoints = ((values[1:] + values[:-1]) / 2).astype(dtype)
    for places in (midpoints, *(np.nextafter(midpoints, dtype.type(end)) for end in (-np.inf, np.inf))):
        assert found >= set(places.tolist())
    assert found >= {record.max, record.max + 2.0 ** (record.max_exponent - record.precision)}
