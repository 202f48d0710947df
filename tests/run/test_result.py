"""Runs: tables, quantiles, files."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import simlib as sl
from simlib.run import files
from simlib.run.result import COUNTED_LATER
from simlib.run.tables import Tables, distinct, equal
from tests import mutations

BOARD = sl.Scenario(updates={"rate_per_s": 0.5}, clients=30, horizon_s=200.0, cool_down_s=40.0)
KEEP = ("deliveries", "events")
TABLES = ("timeline", "clients", "latency", "connections", *KEEP)


@pytest.fixture(scope="module", params=["polling", "websocket"])
def run(request):
    return sl.simulate(BOARD.replace(transport=request.param), keep=KEEP, progress=False)


def test_a_saved_run_comes_back_equal(run, tmp_path):
    back = sl.Run.load(run.save(tmp_path / "run"))
    assert back.scenario == run.scenario
    assert back.provenance == run.provenance
    assert back.ledger == run.ledger
    for name in TABLES:
        pd.testing.assert_frame_equal(back.frame(name), run.frame(name), check_dtype=False)
    pd.testing.assert_frame_equal(back.metrics(), run.metrics())


def test_saving_again_replaces_and_leaves_nothing_else(run, tmp_path):
    run.save(tmp_path / "run")
    run.save(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_missing_incomplete_or_foreign_folder_is_refused(run, tmp_path):
    with pytest.raises(sl.RunFileError, match=r"missing\.run: there is no saved run of that name"):
        sl.Run.load(tmp_path / "missing.run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(sl.RunFileError, match="not a complete saved run"):
        sl.Run.load(tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(sl.RunFileError, match="must be the folder that save wrote"):
        sl.Run.load(tmp_path / "file")
    folder = run.save(tmp_path / "run")
    (folder / "latency.parquet").unlink()
    with pytest.raises(sl.RunFileError, match=r"no latency\.parquet"):
        sl.Run.load(folder)
    (folder / "latency.parquet").write_bytes(b"not parquet")
    with pytest.raises(sl.RunFileError, match="not written by simlib"):
        sl.Run.load(folder)
    pd.DataFrame({"a": [1]}).to_parquet(folder / "latency.parquet")
    with pytest.raises(sl.RunFileError, match="not as simlib wrote it"):
        sl.Run.load(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return mutations.saved_runs(tmp_path_factory.mktemp("saved"))


@pytest.mark.parametrize("kind", mutations.OF_RUNS)
def test_a_mutated_run_is_refused_or_comes_back_equal(kind, saved, tmp_path):
    for number in range(6):
        outcome, detail = mutations.load_mutated(saved, kind, number, tmp_path / str(number))
        assert outcome in ("equal", "RunFileError"), (kind, number, outcome, detail)


def forged(folder, change):
    """Change a saved run as somebody does who knows the digests, or another version of simlib."""
    tables = {file.stem: parquet.read_table(file) for file in folder.glob("*.parquet")}
    about = json.loads(tables["timeline"].schema.metadata[b"simlib.about"])
    tables, about = change(tables, about)
    about["digests"] = {name: files.digest(table) for name, table in tables.items()}
    for name, table in tables.items():
        files.write(table, folder / f"{name}.parquet", about)


def with_column(table, name, values):
    return table.set_column(table.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize("name", [*TABLES, "exposures"])
def test_columns_that_are_missing_or_of_another_type_are_named(name, saved, tmp_path):
    source = saved["rollout" if name == "exposures" else "kept"]
    for number, column in enumerate(parquet.read_table(source / f"{name}.parquet").column_names):
        if column in COUNTED_LATER:
            continue
        folder = mutations.copy_of(source, tmp_path / f"{number}-missing")
        forged(
            folder,
            lambda tables, about: (
                {**tables, name: tables[name].drop_columns([column])},  # noqa: B023
                about,
            ),
        )
        with pytest.raises(sl.RunFileError, match=rf"{name}\.parquet lacks {column}$"):
            sl.Run.load(folder)
        folder = mutations.copy_of(source, tmp_path / f"{number}-type")
        forged(
            folder,
            lambda tables, about: (
                {**tables, name: with_column(tables[name], column, [True] * len(tables[name]))},  # noqa: B023
                about,
            ),
        )
        with pytest.raises(
            sl.RunFileError, match=rf"{name}\.parquet has another type of {column}$"
        ):
            sl.Run.load(folder)


def test_a_run_whose_ledger_or_provenance_is_not_whole_is_refused(saved, tmp_path):
    def off(tables, about):
        clients = tables["clients"]
        pending = clients["pending"].to_numpy() + 1
        return {**tables, "clients": with_column(clients, "pending", pending)}, about

    folder = mutations.copy_of(saved["polling"], tmp_path / "off")
    forged(folder, off)
    with pytest.raises(sl.RunFileError, match="its ledger does not balance"):
        sl.Run.load(folder)
    for key in ("engine", "seed", "replication", "complete", "scenario_hash"):
        folder = mutations.copy_of(saved["polling"], tmp_path / key)
        forged(folder, lambda tables, about: (tables, about | {"provenance": without(about, key)}))  # noqa: B023
        with pytest.raises(sl.RunFileError, match=f"its provenance lacks {key}$"):
            sl.Run.load(folder)
    for key in ("scenario", "trace", "provenance"):
        folder = mutations.copy_of(saved["polling"], tmp_path / f"no-{key}")
        forged(folder, lambda tables, about: (tables, {k: v for k, v in about.items() if k != key}))  # noqa: B023
        with pytest.raises(sl.RunFileError, match="not written by simlib"):
            sl.Run.load(folder)


def without(about, key):
    return {name: value for name, value in about["provenance"].items() if name != key}


def test_a_digest_depends_on_names_types_order_and_values_but_not_on_chunks():
    table = pa.table({"a": [1, 2, 3], "b": ["x", "y", "x"], "c": [[1], [2, 3], None]})
    others = [
        table.rename_columns(["a", "b", "d"]),
        table.select(["b", "a", "c"]),
        table.slice(0, 2),
        table.take([1, 0, 2]),
        with_column(table, "a", [1.0, 2.0, 3.0]),
        with_column(table, "a", pa.array([1, 2, 3], pa.int32())),
        with_column(table, "a", [1, 2, None]),
        with_column(table, "b", ["x", "y", "y"]),
        with_column(table, "b", ["y", "x", "y"]),
        with_column(table, "c", [[1, 2], [3], None]),
    ]
    digests = {files.digest(one) for one in (table, *others)}
    assert len(digests) == 1 + len(others)
    halves = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert files.digest(halves) == files.digest(table)


# -- where nothing can be written -----------------------------------------------------------------


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def at_the_end(real):
    """Let the first of the tables be written, then the disk is full."""
    calls = []

    def write(*args):
        calls.append(1)
        return real(*args) if len(calls) == 1 else full()

    return write


def last_rename(real):
    """Let the older run be moved away, then nothing can be moved in its place."""

    def rename(self, target):
        return full() if self.name == "run" and target.name != "old" else real(self, target)

    return rename


@pytest.mark.parametrize("is_there", [False, True], ids=["new", "older run there"])
@pytest.mark.parametrize(
    "broken",
    [
        (files, "write", lambda _: full),
        (files, "write", at_the_end),
        (Path, "mkdir", lambda _: full),
        (Path, "rename", lambda _: full),
        (Path, "rename", last_rename),
        ("tempfile", "mkdtemp", lambda _: full),
    ],
    ids=["write", "second write", "mkdir", "first rename", "last rename", "scratch"],
)
def test_a_disk_that_is_full_is_an_error_and_leaves_what_was_there(
    run, broken, is_there, tmp_path, monkeypatch
):
    import tempfile

    home, name, make = broken
    home = tempfile if home == "tempfile" else home
    if is_there:
        run.save(tmp_path / "run" / "x")
    with monkeypatch.context() as patched:
        patched.setattr(home, name, make(getattr(home, name)))
        with pytest.raises(sl.RunFileError, match=r"x: cannot be written \(.*No space left"):
            run.save(tmp_path / "run" / "x")
    assert [path.name for path in tmp_path.rglob("*") if path.suffix != ".parquet"] == (
        ["run", "x"] if is_there else ["run"] if name != "mkdir" else []
    )
    if is_there:
        assert sl.Run.load(tmp_path / "run" / "x").ledger == run.ledger


@pytest.mark.parametrize("place", ["file/run", "/proc/run", "x" * 300, "a\0b", "", None, 5, b"a"])
def test_a_place_where_no_run_can_be_is_named(run, place, tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path / place if isinstance(place, str) and place else place
    for call in (run.save, sl.Run.load):
        with pytest.raises(sl.RunFileError):
            call(path)


def test_a_provenance_that_no_file_can_hold_is_refused(run, tmp_path):
    odd = sl.Run(run.scenario, {**run.provenance, "note": object()}, run._tables)
    with pytest.raises(sl.RunFileError, match="its provenance cannot be written"):
        odd.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_provenance_with_any_number_in_it_comes_back(run, tmp_path):
    numbers = [float("nan"), float("inf"), -0.0, 5e-324, 2**70]
    noted = sl.Run(run.scenario, {**run.provenance, "note": numbers}, run._tables)
    back = sl.Run.load(noted.save(tmp_path / "run"))
    assert repr(back.provenance["note"]) == repr(numbers)


def test_a_folder_whose_name_looks_like_a_partition_adds_no_column(run, tmp_path):
    back = sl.Run.load(run.save(tmp_path / "clients=5" / "cohort=x"))
    assert list(back.frame("latency")) == list(run.frame("latency"))


def test_quantiles_are_within_one_percent_of_the_exact_ones(run):
    levels = np.array([0.01, 0.25, 0.5, 0.9, 0.99, 1.0])
    exact = np.quantile(run.frame("deliveries")["latency_s"], levels, method="inverted_cdf")
    assert run.latency_quantiles(levels) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("q", [-0.1, 1.1, [0.5, float("nan")]])
def test_quantiles_outside_the_unit_interval_are_refused(run, q):
    with pytest.raises(sl.ScenarioError, match=r"q: must be in \[0, 1\]"):
        run.latency_quantiles(q)


def test_an_unknown_table_is_refused_with_the_known_ones(run):
    with pytest.raises(sl.ScenarioError, match="must be one of timeline, clients"):
        run.frame("tables")


def test_provenance_says_how_to_make_the_run_again(run):
    provenance = run.provenance
    again = sl.simulate(
        run.scenario,
        seed=provenance["seed"],
        replication=provenance["replication"],
        engine=provenance["engine"],
        progress=False,
    )
    assert again.ledger == run.ledger
    assert provenance["scenario_hash"] == run.scenario.hash
    assert provenance["versions"]["simlib"] == sl.__version__


@pytest.mark.parametrize(
    "show", [sl.figures.latency, sl.figures.utilisation, sl.metrics.summary, sl.metrics.tail]
)
def test_a_list_of_runs_is_refused_with_how_to_give_it(run, show):
    with pytest.raises(sl.ScenarioError, match=r"given one by one, with a star: \(\*runs\)"):
        show([run, run])


@pytest.fixture(scope="module")
def of_nodes():
    board = sl.Scenario(transport="websocket", updates={"rate_per_s": 0.5}, clients=30)
    board = board.replace({"server.nodes": 3, "horizon_s": 60.0, "server.send_s": 0.01})
    return sl.simulate(board, progress=False)


def test_a_loaded_run_of_several_nodes_knows_how_busy_each_was(of_nodes, tmp_path):
    back = sl.Run.load(of_nodes.save(tmp_path / "run"))
    pd.testing.assert_frame_equal(back.frame("nodes"), of_nodes.frame("nodes"))
    assert back.frame("nodes")["utilisation"].gt(0.0).any()
    pd.testing.assert_frame_equal(back.metrics(), of_nodes.metrics())


def test_a_run_whose_nodes_nobody_counted_is_refused(of_nodes, tmp_path):
    tables = {name: columns for name, columns in of_nodes._tables.items() if name != "busy"}
    old = sl.Run(of_nodes.scenario, of_nodes.provenance, tables)
    with pytest.raises(sl.RunFileError, match=r"no busy\.parquet: not a complete saved run"):
        sl.Run.load(old.save(tmp_path / "run"))


def test_tables_are_made_when_they_are_read_and_travel_whole():
    made = []

    def table():
        made.append(1)
        return {"client": np.arange(3)}

    tables = Tables({"clients": table, "events": lambda: pytest.fail("nobody reads it")})
    assert list(tables) == ["clients", "events"]
    assert "events" in tables
    assert tables["clients"] is tables["clients"]
    assert made == [1]
    with pytest.raises(KeyError):
        tables["busy"]
    there = pickle.loads(pickle.dumps(Tables({"clients": table})))
    assert there["clients"]["client"].tolist() == [0, 1, 2]


def test_a_column_of_one_label_is_read_as_one_of_many():
    one = np.broadcast_to(np.array("all", dtype=object), 4)
    for labels in (one, one.copy()):
        assert distinct(labels).tolist() == ["all"]
        for label, rows in (("all", 4), ("other", 0)):
            assert len(np.arange(4)[equal({"cohort": labels}, "cohort", label)]) == rows
    assert distinct(np.array(["b", "a", "b"], dtype=object)).tolist() == ["a", "b"]
    assert distinct(one[:0]).tolist() == []
