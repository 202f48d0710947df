"""Finished runs on disk: those of a second in one file, none of them later than that."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from simlib import store as module
from simlib.errors import RunFileError
from simlib.store import Keeper, Keeping, Store

ROWS = [{"clients": 5, "users": float("nan"), "p50_s": 0.1 + 0.2, "ledger": (3, 2, 0, 1, 0)}]


LIMIT_S = 120.0
"""How long what comes soon may take on a busy machine."""


def key_of(number):
    return f"{number:032x}"


def test_runs_that_finish_within_a_second_are_kept_in_one_file(tmp_path, monkeypatch):
    assert module._BATCH_S == 1.0
    monkeypatch.setattr(module, "_BATCH_S", 60.0)  # on a busy machine these may take longer
    with Keeper(Keeping(Store(tmp_path), key_of)) as keeper:
        for number in range(100):
            keeper.keep(number, [{"clients": number}])
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    found = Store(tmp_path)
    assert len(found) == 100
    assert [found.find(key_of(number)) for number in (0, 99)] == [
        [{"clients": 0}],
        [{"clients": 99}],
    ]


def test_a_run_is_kept_soon_though_no_other_finishes(tmp_path):
    with Keeper(Keeping(Store(tmp_path), key_of)) as keeper:
        keeper.keep(7, ROWS)
        until_s = time.monotonic() + LIMIT_S
        while len(Store(tmp_path)) == 0 and time.monotonic() < until_s:
            time.sleep(0.05)
        assert len(Store(tmp_path)) == 1
        keeper.keep(8, ROWS)
    assert len(Store(tmp_path)) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_ends_a_sweep_what_has_finished_is_kept(tmp_path, error):
    def sweep():
        with Keeper(Keeping(Store(tmp_path), key_of)) as keeper:
            keeper.keep(1, ROWS)
            raise error

    with pytest.raises(error):
        sweep()
    assert len(Store(tmp_path)) == 1


def test_numbers_come_back_as_they_were(tmp_path):
    rows = [{**ROWS[0], "lost": np.int64(2**53 + 1), "late_s": np.float64(1e-300), "far": np.inf}]
    Store(tmp_path).keep({key_of(0): rows})
    (row,) = Store(tmp_path).find(key_of(0))
    assert {type(row[name]) for name in ("clients", "lost")} == {int}
    assert (row["p50_s"], row["lost"], row["late_s"]) == (0.1 + 0.2, 2**53 + 1, 1e-300)
    assert (np.isnan(row["users"]), row["far"]) == (True, np.inf)


def test_a_file_that_cannot_be_written_is_told_to_whoever_keeps(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    def sweep():
        with Keeper(Keeping(Store(tmp_path), key_of)) as keeper:
            while time.monotonic() < until_s:
                keeper.keep(1, ROWS)
                time.sleep(0.01)

    monkeypatch.setattr(module.files, "write", full)
    monkeypatch.setattr(module, "_BATCH_S", 0.0)
    until_s = time.monotonic() + LIMIT_S
    with pytest.raises(RunFileError, match="cannot be written"):
        sweep()
    assert time.monotonic() < until_s


def test_runs_of_another_version_are_not_looked_at(tmp_path, monkeypatch):
    Store(tmp_path).keep({key_of(0): ROWS})
    monkeypatch.setattr(module, "version", lambda: "0" * 64)
    assert Store(tmp_path).find(key_of(0)) is None


def test_what_finishes_while_the_last_file_is_written_is_kept(tmp_path, monkeypatch):
    """A slow disk: the writer is at work when the block ends."""
    write = Store.keep
    writes = threading.Event()

    def slowly(self, runs):
        writes.set()
        assert keeper._is_over.wait(LIMIT_S)
        write(self, runs)

    monkeypatch.setattr(module, "_BATCH_S", 0.0)
    monkeypatch.setattr(Store, "keep", slowly)
    with Keeper(Keeping(Store(tmp_path), lambda task: task * 32)) as keeper:
        keeper.keep("0", [{"clients": 5}])
        assert writes.wait(LIMIT_S)
        keeper.keep("1", [{"clients": 6}])
    assert len(Store(tmp_path)) == 2
