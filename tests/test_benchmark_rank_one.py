"""Cases of rank-one recursions in one call, and their benchmark, beside what they must equal. No time is asserted."""

import csv
import importlib
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from precond_lab import Arithmetic, emulate
from precond_lab.preconditioners import rank_one
from precond_lab.preconditioners.rank_one import batches

BENCHMARKS = Path(__file__).parents[1] / "studies" / "benchmarks"
MODULES = [file.stem for file in BENCHMARKS.glob("*.py")]
BFLOAT16 = Arithmetic("bfloat16", carrier="float32")


@pytest.fixture(scope="module")
def benchmark():
    """The benchmark's modules, imported as the command does."""
    path = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("rank_one")
    sys.path[:] = path
    for name in MODULES:
        sys.modules.pop(name, None)


def same(a, b):
    return all(
        np.array_equal(x, y, equal_nan=True) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


# Cases in one call


def cases(count, n, steps):
    draw = np.random.default_rng(0)
    V = jnp.asarray(draw.standard_normal((count, steps, n)), jnp.float32)
    beta = jnp.linspace(0.75, 1, count, dtype=jnp.float32)
    states = jax.vmap(rank_one.METHODS["gain"].start)(jnp.asarray(draw.uniform(0.5, 2, (count, n)), jnp.float32))
    return states, V, beta, 2 - beta


def test_cases_in_pieces_are_the_emulated_runs_bit_for_bit():
    arguments = cases(count=7, n=3, steps=4)
    method = rank_one.METHODS["gain"]
    one = jax.jit(jax.vmap(emulate(partial(rank_one.run, method, every=2), BFLOAT16)))(*arguments)
    many = emulate(partial(batches.run_cases, method, every=2, size=3), BFLOAT16)(*arguments)
    assert same(one, many)
    assert many[1].P.shape == (7, 2, 3, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", rank_one.METHODS)
def test_cases_of_every_form_are_the_emulated_runs_bit_for_bit(name):
    _, *arguments = cases(count=3, n=4, steps=3)
    method = rank_one.METHODS[name]
    states = jax.jit(jax.vmap(method.start))(jnp.linspace(0.5, 2, 12, dtype=jnp.float32).reshape(3, 4))
    one = jax.jit(jax.vmap(emulate(partial(rank_one.run, method), "float16")))(states, *arguments)
    assert same(one, emulate(partial(batches.run_cases, method), "float16")(states, *arguments))


def zoo(A, x, table, which):
    """Operations that have a rule, that have none, and some that only part of the operands make vary."""
    fixed = jnp.arange(6.0).reshape(2, 3)
    parts = [
        A @ fixed.T,
        fixed @ A,
        A.T @ (fixed.T @ (fixed @ x)),
        jnp.where(x > 0, A, 0.0),
        jnp.pad(A, ((1, 0), (0, 2))),
        jnp.cumsum(A[::2, 1:], axis=1),
        jnp.sort(x)[::-1],
        table[which],
        fixed[which % 2],
        A[jnp.array([2, 0])],
        jnp.argmax(A, axis=0),
        lax.dynamic_slice(A, (1, 0), (2, 2)),
        jnp.einsum("ij,kj->ik", A, A),
        x.at[which].add(1.0),
        lax.cond(x[0] > 0, jnp.sin, jnp.cos, x),
        lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, x))[1],
    ]

    def step(carry, row):
        count, total = carry
        return (count + 1, total + row * x[count]), (count, total)

    return parts, lax.scan(step, (0, jnp.zeros(3)), A)


def test_a_program_on_a_last_axis_of_cases_is_the_one_under_vmap():
    draw = np.random.default_rng(0)
    A, x, table = (jnp.asarray(draw.standard_normal(s), jnp.float32) for s in ((3, 3, 5), (3, 5), (4, 2, 5)))
    which = jnp.array([0, 2, 1, 2, 0])
    mapped = jax.jit(jax.vmap(zoo, in_axes=-1, out_axes=-1))(A, x, table, which)
    last = jax.jit(batches.cases_last(zoo))(A, x, table, which)
    assert jax.tree.structure(mapped) == jax.tree.structure(last)
    for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(last), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2**-20, atol=2**-20)  # sums of 3, in an order that is XLA's affair


def test_scopes_survive():
    def program(x):
        with jax.named_scope("outer"):
            return lax.scan(lambda c, y: (_inner(c, y), None), x, x[None])[0]

    def _inner(c, y):
        with jax.named_scope("inner"):
            return c * y

    third = jnp.full((2, 3), 1 / 3, jnp.float32)
    mixed = Arithmetic("float32", carrier="float32", overrides={"inner": BFLOAT16})
    one = jax.vmap(emulate(program, mixed), in_axes=-1, out_axes=-1)(third)
    many = emulate(batches.cases_last(program), mixed)(third)
    assert same(one, many)
    assert many[0, 0] == jnp.float32(jnp.bfloat16(third[0, 0]) * jnp.bfloat16(third[0, 0]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s, V, *r: (s, V[:1], *r), "first axis"),
        (lambda s, V, *r: (jax.tree.map(lambda x: x[:0], s), V[:0], *r), "at least one"),
    ],
)
def test_cases_that_do_not_fit_are_refused(change, text):
    with pytest.raises(ValueError, match=text):
        batches.run_cases(rank_one.METHODS["gain"], *change(*cases(2, 2, 1)))


def test_a_piece_without_cases_is_refused():
    with pytest.raises(ValueError, match="0 cases"):
        batches.run_cases(rank_one.METHODS["gain"], *cases(2, 2, 1), size=0)


def test_pieces_fill_a_cache_and_a_register():
    assert batches.piece(32 * 32, 4096) == 128
    assert batches.piece(32 * 32, 100) == 100
    assert batches.piece(128 * 128, 4096) == batches.FEWEST
    assert batches.piece(1024 * 1024, 4096) == batches.FEWEST_LARGE


# The benchmark


@pytest.fixture(scope="module")
def checked(benchmark):
    """A program with its cell and cases."""
    parts = sys.modules["rank_one_cells"]
    cell, size = parts.Cell("gain", "bfloat16", 5), parts.Size(5, 3, 4, 1)
    return parts, cell, parts.programs(cell, few=True)[parts.BATCH], parts.inputs(cell.form, size)


def test_a_peer_computes_what_the_program_computes(checked):
    parts, cell, program, cases = checked
    for peer in (parts.PEER, parts.LOOP):
        assert parts.check(cell, peer, program, cases, 3) == parts.Check(cell, peer, 75, 0)


def test_another_computation_is_found_out(checked, monkeypatch):
    parts, cell, program, cases = checked
    peers = sys.modules["rank_one_peers"]
    monkeypatch.setattr(peers, "FORMS", {"gain": peers.symmetric})
    assert parts.check(cell, parts.PEER, program, cases, 3).different > 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["symmetric", "potter", "bierman_ud"])
@pytest.mark.parametrize("format", ["bfloat16", "float16", "float8_e5m2"])
def test_every_peer_computes_what_the_program_computes(benchmark, form, format):
    parts = sys.modules["rank_one_cells"]
    cell, size = parts.Cell(form, format, 9), parts.Size(9, 3, 5, 1)
    program, cases = parts.programs(cell, few=True)[parts.BATCH], parts.inputs(form, size)
    assert parts.check(cell, parts.PEER, program, cases, 3).different == 0


def test_page_and_rows(benchmark, tmp_path, capsys, monkeypatch):
    parts = sys.modules["rank_one_cells"]
    scale = parts.Scale((parts.Size(4, 4, 2, 1),), ("gain",), ("bfloat16",), few=0, rounds=1)
    monkeypatch.setattr(benchmark, "QUICK", scale)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)
    monkeypatch.setenv("NPROC", "1")
    monkeypatch.setattr(jax.config, "update", lambda *setting: settings.append(setting))
    monkeypatch.setattr(parts, "REPEATS", 1)
    monkeypatch.setattr(parts, "sampler", lambda call: call() and (lambda: 1.0))
    settings = []
    benchmark.main(["--quick", "--output", str(tmp_path)])
    assert settings == [("jax_cpu_enable_async_dispatch", False)]
    page = next(tmp_path.glob("*-rank-one-cpu.md")).read_text()
    assert page == capsys.readouterr().out.removesuffix("\n")
    with next(tmp_path.glob("*-rank-one-cpu.csv")).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [
        *(parts.PEER, parts.LOOP, parts.BATCH, parts.NATIVE),
        *(parts.ROUNDING, parts.COPY),
    ]
    assert {row["section"] for row in rows} == {"gain, bfloat16"}
    assert page.index("| met |") < page.index("## gain, bfloat16") < page.index("## The same bits")
    assert f"| gain, bfloat16 | {parts.PEER} | 0 of 32 |" in page


@pytest.mark.parametrize(("batch", "verdicts"), [(0.009, "yes yes yes"), (0.02, "no yes no"), (0.05, "no no no")])
def test_targets_are_judged_by_the_figures_of_the_run(benchmark, batch, verdicts):
    parts, page = sys.modules["rank_one_cells"], sys.modules["rank_one_page"]
    timing = sys.modules["measure"].Timing
    ratios = {parts.PEER: 1.0, parts.LOOP: 2.5, parts.MATMUL: 1.5, parts.BATCH: batch, parts.BATCH32: batch}
    timings = {name: timing(x, x, x, x) for name, x in ratios.items()}
    found = parts.Found(parts.Cell("gain", "bfloat16", 32), parts.Size(32, 1, 1, 1), timings, [])
    (line,) = page.target_lines([found])[2:]
    assert [cell for cell in line.replace(" ", "").split("|") if cell in {"yes", "no"}] == verdicts.split()


def test_large_matrices_are_measured_in_one_format(benchmark):
    formats = {(cell.n >= benchmark.FULL.few, cell.format) for cell, _ in benchmark.cells(benchmark.FULL)}
    assert formats == {(False, format) for format in benchmark.FULL.formats} | {(True, "bfloat16")}
