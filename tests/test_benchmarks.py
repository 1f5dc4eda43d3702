"""The benchmarks run, and their tables have their rows. No time is ever asserted."""

import csv
import importlib
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from precond_lab.arithmetic import formats
from precond_lab.arithmetic.rounding import ROUNDINGS

BENCHMARKS = Path(__file__).parents[1] / "studies" / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Import a benchmark as the command does, with its own folder first on the path."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module
    for name in ("measure", "first_light", "rounding_oracle", "device"):
        sys.modules.pop(name, None)


@pytest.fixture
def caches_kept(monkeypatch):
    """Spare the other tests of this process the cold compilations that the benchmark asks for."""
    monkeypatch.setattr(jax, "clear_caches", lambda: None)


def test_first_light_fills_its_table(benchmark, caches_kept, monkeypatch, tmp_path, capsys):
    first_light = benchmark("first_light")
    tiny = first_light.Scale(rounding=(8, 16), wide=8, programs=(8,), product=4, rounds=1)
    monkeypatch.setattr(first_light, "QUICK", tiny)
    few = {name: first_light.ARITHMETICS[name] for name in list(first_light.ARITHMETICS)[1:3]}
    monkeypatch.setattr(first_light, "ARITHMETICS", few)
    enabled = jax.config.jax_enable_compilation_cache  # pyright: ignore
    try:
        first_light.main(["--quick", "--output", str(tmp_path)])
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)

    page = next(tmp_path.glob("*-cpu.md")).read_text()
    assert page == capsys.readouterr().out.removesuffix("\n")
    for section in first_light.SECTIONS:
        assert f"## {section.title}\n" in page
    for row in [first_light.COPY, first_light.NATIVE, *few]:
        assert f"| {row} |" in page
    for format in formats.NAMED:
        for rounding in ROUNDINGS:
            assert page.count(f"| {format}, {rounding} |") == 2  # from float32, and from float64
    with next(tmp_path.glob("*-cpu.csv")).open() as file:
        rows = list(csv.DictReader(file))
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


@pytest.fixture
def device(benchmark, monkeypatch):
    module = benchmark("device")
    monkeypatch.setattr(module, "QUICK", module.Scale(patterns=64, timed=16, rounds=1))
    monkeypatch.setattr(module, "DTYPES", {"float8_e4m3fn": module.DTYPES["float8_e4m3fn"]})
    monkeypatch.setattr(module, "PROGRAMS", {"a b + c": module.PROGRAMS["a b + c"]})
    monkeypatch.setattr(module, "ARITHMETICS", [module.COUNTED])
    return module


def test_device_check_passes_here(device, tmp_path, capsys):
    assert device.main(["--quick", "--output", str(tmp_path)]) == 0
    page = capsys.readouterr().out
    assert next(tmp_path.glob("*-device-*.md")).read_text() == page.removesuffix("\n")
    assert page.count("| PASS |") == 2 * (2 + 1) + 1  # two carriers: two modes and a random one; a program
    assert "FAIL" not in page
    for rounding in ("nearest_even", "toward_zero"):
        assert f"| float8_e4m3fn, {rounding} |" in page


def test_device_check_sees_a_wrong_rounding(device, monkeypatch, capsys):
    right = device.round_bits
    monkeypatch.setattr(device, "round_bits", lambda x, *args, **kwargs: right(x, *args, **kwargs) + (x == 3))
    assert device.main(["--quick"]) == 1
    assert "| FAIL | float8_e4m3fn from float32, nearest_even |" in capsys.readouterr().out


def test_device_check_sees_a_program_that_differs(device, monkeypatch, capsys):
    calls = iter(range(2))
    monkeypatch.setattr(device, "emulate", lambda f, arithmetic, events: lambda x, y: f(x, y) + next(calls))
    assert device.main(["--quick"]) == 1
    assert "| FAIL | a b + c |" in capsys.readouterr().out


@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_boundaries_hold_every_value_and_midpoint(benchmark, format, dtype):
    device = benchmark("device")
    record, dtype = formats.named(format), np.dtype(dtype)
    found = set(device.boundaries(record, dtype).tolist())
    codes = np.arange(256, dtype=np.uint8).view(device.DTYPES[format]).astype(dtype)
    values = np.unique(codes[np.isfinite(codes)])
    assert values.size == record.finite_values
    assert found >= set(values.tolist())
    midpoints = ((values[1:] + values[:-1]) / 2).astype(dtype)
    for places in (midpoints, *(np.nextafter(midpoints, dtype.type(end)) for end in (-np.inf, np.inf))):
        assert found >= set(places.tolist())
    assert found >= {record.max, record.max + 2.0 ** (record.max_exponent - record.precision)}
