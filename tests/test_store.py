"""Laws of the store: what goes in comes out, and a bad file is a clear error."""

import json
import math
import random
import sqlite3
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precond_lab.study.declaration import Case, Options
from precond_lab.study.provenance import stored_run
from precond_lab.study.store import SCHEMA, Meta, Record, Store, StoreError, decode, encode

META = Meta("s", 1, "/somewhere/study.py", Options(quick=True, data="/d"), "2026-01-01T00:00:00+00:00", "later")
GRID = [Case(f"id{n}", {"n": n}) for n in range(20)]
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


def record(case: Case, figures=None, traceback=None, seconds=0.25) -> Record:
    status = "failed" if figures is None else "ok"
    return Record(case, status, figures, traceback, 1, seconds, None, {"jax": "1"}, "cpu", "2026-01-02")


@pytest.fixture
def filled(tmp_path):
    path = tmp_path / "runs" / "rows.sqlite"
    with Store.create(path) as store:
        store.plan(META, GRID)
        store.save(record(case, {"square": case.parameters["n"] ** 2}) for case in GRID[:10])
        store.save([record(GRID[10], None, "Traceback\nOops: \udc80")])
    return path


def same(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or struct.pack("<d", a) == struct.pack("<d", b)
    return type(a) is type(b) and a == b


@given(st.dictionaries(st.text(min_size=1), PLAIN))
def test_figures_survive_bit_for_bit_as_strict_json(figures):
    text = encode(figures)
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    text.encode("ascii")
    back = decode(text)
    assert back.keys() == figures.keys()
    assert all(same(back[name], figures[name]) for name in figures)


def test_rows_and_their_origin_come_back(filled):
    with Store.read(filled) as store:
        assert store.meta() == META
        assert store.rows() == [{"n": n, "square": n * n} for n in range(10)]
        assert list(store.statuses().values()).count(None) == 9
    run = stored_run(filled)
    assert (run.provenance.cases_ok, run.provenance.cases_failed, run.provenance.cases_missing) == (10, 1, 9)
    assert run.provenance.failures[0].parameters == {"n": 10}
    assert run.provenance.failures[0].reason == "Oops: \\udc80"
    assert run.provenance.versions == {"jax": ("1",)}
    assert run.provenance.compute_seconds == 11 * 0.25
    assert run.label == "quick-d-4823"


def test_saving_twice_replaces(filled):
    with Store.create(filled) as store:
        store.save([record(GRID[3], {"square": -1}), record(GRID[10], {"square": 100})])
        store.plan(META, GRID)
        assert store.statuses()["id10"] == "ok"
        assert [row["square"] for row in store.rows()] == [0, 1, 4, -1, 16, 25, 36, 49, 64, 81, 100]


def test_rows_outside_the_plan_are_kept_and_left_out(filled):
    with Store.create(filled) as store:
        store.plan(META, GRID[:3])
        assert len(store.rows()) == 3
        store.plan(META, GRID)
        assert len(store.rows()) == 10


def test_readers_see_committed_rows_while_a_run_writes(filled):
    with Store.create(filled) as writer, Store.read(filled) as reader:
        for number, case in enumerate(GRID[11:], start=11):
            writer.save([record(case, {"square": 0})])
            assert len(reader.rows()) == number


def test_a_failed_transaction_leaves_no_row(filled):
    def breaks():
        yield record(GRID[12], {"square": 144})
        raise RuntimeError("killed")

    with Store.create(filled) as store:
        with pytest.raises(RuntimeError, match="killed"):
            store.save(breaks())
        assert len(store.rows()) == 10


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (f"PRAGMA user_version = {SCHEMA + 1}", "schema 2"),
        ("PRAGMA application_id = 7", "another program"),
        ("DROP TABLE rows", "corrupt"),
        ("UPDATE meta SET value = 'x{'", "corrupt"),
        ("UPDATE rows SET parameters = '[1]'", "corrupt"),
        ("UPDATE rows SET figures = '{'", "corrupt"),
    ],
)
def test_a_file_of_another_kind_is_refused(filled, statement, message):
    connection = sqlite3.connect(filled)
    with connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(StoreError, match=message):
        stored_run(filled)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "rows.sqlite"
    path.write_bytes(b"no database, but long enough to be looked at as if it were one" * 40)
    for use in (Store.create, Store.read, stored_run):
        with pytest.raises(StoreError, match="corrupt"):
            use(path)


def test_a_run_killed_at_its_very_start_is_made_again(tmp_path):
    path = tmp_path / "rows.sqlite"
    path.touch()
    with pytest.raises(StoreError, match="stopped at its start"):
        stored_run(path)
    Store.create(path).__exit__()
    with pytest.raises(StoreError, match="stopped at its start"):
        stored_run(path)
    with Store.create(path) as store:
        assert store.meta() is None


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="choose another with --runs"):
        Store.create(tmp_path / "file" / "rows.sqlite")
    with pytest.raises(StoreError, match="does not exist"):
        Store.read(tmp_path / "none.sqlite")


def test_damage_is_never_a_traceback(filled, tmp_path):
    content = filled.read_bytes()
    draw = random.Random("damage")
    refused = 0
    for trial in range(200):
        damaged = bytearray(content)
        if trial % 4 == 0:
            damaged = damaged[: draw.randrange(1, len(content))]
        else:
            for _ in range(draw.choice((1, 8, 64))):
                damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path = tmp_path / f"{trial}.sqlite"
        path.write_bytes(damaged)
        try:
            stored_run(path)
        except StoreError:
            refused += 1
    assert refused > 50
