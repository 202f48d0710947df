"""Compiling before a run waits for it: what is compiled, by how many processes, and where not."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import pytest

import simlib as sl
from simlib.engines import warm
from simlib.engines.compiled import simulation
from simlib.engines.compiled.compiling import alone_or_not
from simlib.engines.compiled.variants import COPIES, GENERAL, POLLS, PUSHES
from simlib.scenario import compile_workload, new_record
from tests.engines.test_choice import BOARD, PLAN

COMPILED = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
WRITES = "import sys; sys.stdout.write('.' * 9)"
FAILS = "import sys; sys.exit('general' in sys.argv)"


class Process:
    """One that was started, and goes on until it is told to end."""

    returncode = None

    def __init__(self, command, **options):
        self.command, self.options = command, options

    def poll(self):
        return self.returncode


class Kept:
    """Loops, all of which are on disk, or none."""

    def __init__(self, is_kept, folder=None):
        self.is_kept, self.folder = is_kept, folder

    def are_kept(self):
        return self.is_kept


@pytest.fixture
def started(monkeypatch, tmp_path):
    """A machine of two processors, no test and no CI, on which nothing is kept."""
    processes = []
    monkeypatch.setattr(warm, "_started", processes)
    monkeypatch.setattr(warm, "_processors", lambda: 2)
    monkeypatch.setattr(warm.subprocess, "Popen", Process)
    monkeypatch.setattr(simulation, "loops_of", lambda _copy: Kept(False, str(tmp_path)))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(warm.SWITCH, "1")
    for name in ("CI", "NUMBA_DISABLE_JIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 0)
    return processes


def test_one_process_compiles_beside_this_one_and_this_one_does_not_wait(started):
    assert warm.is_under_way()
    assert warm.is_under_way()
    [process] = started
    own = str(os.getpid())
    assert process.command == [sys.executable, "-m", "simlib.engines.warm", "--ahead", own]
    assert process.options["start_new_session"], "no Ctrl-C of a terminal reaches it"
    process.returncode = 1
    assert not warm.is_under_way(), "it has failed: who needs the loop has to compile it"
    assert len(started) == 1


def test_nothing_is_started_while_another_process_compiles(started, tmp_path):
    with alone_or_not(tmp_path, "ahead") as is_alone:
        assert is_alone
        assert warm.is_under_way()
    assert started == []


def test_nothing_is_started_where_all_is_kept(started, monkeypatch):
    monkeypatch.setattr(simulation, "loops_of", lambda _copy: Kept(True))
    assert not warm.is_under_way()
    assert started == []


@pytest.mark.parametrize(
    ("name", "value"), [(warm.SWITCH, "0"), ("CI", "true"), ("NUMBA_DISABLE_JIT", "1")]
)
def test_nothing_is_started_where_it_is_not_wanted(started, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    warm.begin_early()
    assert not warm.is_under_way()
    assert started == []


def test_on_one_processor_the_run_would_hold_the_compiler_up(started, monkeypatch):
    monkeypatch.setattr(warm, "_processors", lambda: 1)
    warm.begin_early()
    assert not warm.is_under_way()
    assert started == []


def test_small_runs_begin_it_if_there_is_no_code_at_all(started, tmp_path):
    warm.begin_early()
    warm.begin_early()
    assert len(started) == 1
    started.clear()
    (tmp_path / "compiled_0").mkdir()
    (tmp_path / "compiled_0" / "loop.run_0-1.py311.nbi").touch()
    warm.begin_early()
    assert started == []


def test_a_folder_that_cannot_be_written_to_begins_nothing(started, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(warm.os, "access", lambda *_: False)
    warm.begin_early()
    assert started == []


def test_who_gets_no_processor_gives_up():
    assert not warm._takes_too_long(30.0, 1.0)
    assert not warm._takes_too_long(100.0, 60.0)
    assert warm._takes_too_long(100.0, 20.0)
    assert warm._takes_too_long(1000.0, 999.0)


@pytest.fixture
def wanted(monkeypatch):
    """All copies are missing."""
    monkeypatch.setattr(warm, "missing", lambda: list(COPIES))


def test_two_processes_share_the_copies(wanted, monkeypatch):
    asked = []

    class Noted(subprocess.Popen):
        def __init__(self, command, **options):
            asked.append(command[-2:] if len(command) == 5 else command[-1:])
            super().__init__(command, **options)

    monkeypatch.setattr(warm.subprocess, "Popen", Noted)
    monkeypatch.setattr(warm, "_COMMAND", [sys.executable, "-c", WRITES])
    warm.warm(progress=False)
    assert asked == [["general"], ["pushes", "polls"]]


def test_a_process_that_fails_is_told(wanted, monkeypatch):
    monkeypatch.setattr(warm, "_COMMAND", [sys.executable, "-c", FAILS])
    with pytest.raises(subprocess.CalledProcessError, match="general"):
        warm.warm(progress=False)


def test_where_all_is_kept_there_is_nothing_to_do(monkeypatch):
    monkeypatch.setattr(warm, "missing", list)
    monkeypatch.setattr(warm, "_COMMAND", ["no such program"])
    warm.warm()


def test_only_what_is_missing_is_looked_for(monkeypatch):
    monkeypatch.setattr(simulation, "loops_of", lambda copy: Kept(copy is PUSHES))
    assert warm.missing() == [GENERAL, POLLS]
    assert warm.missing([PUSHES]) == []


@COMPILED
def test_what_is_compiled_beforehand_is_what_runs_need(monkeypatch):
    compiled = {}

    def noted(self, *, for_all=False):
        compiled[self._variant, for_all] = numba.typeof(self._world)

    monkeypatch.setattr(simulation.Simulation, "prepare", noted)
    warm.compile_copies(COPIES)
    assert compiled.keys() == {(copy, True) for copy in COPIES}
    push = {"transport": "websocket"}
    general = {"server.nodes": 2, "faults": [{"kind": "reset", "start_s": 60}]}
    slow = {"sessions": {"arrivals_per_s": 0.1, "length_s": 60.0}, "network.rtt_s": 0.1}
    for change in ({}, push, slow, push | slow, general, general | slow, {"transport": "notify"}):
        scenario = BOARD.replace(change)
        workload = compile_workload(scenario, 1, 0)
        one = simulation.Simulation(workload, new_record(scenario, workload, ("deliveries",)))
        assert numba.typeof(one._world) == compiled[one._variant, True], change


@COMPILED
def test_a_rollout_needs_the_same(monkeypatch):
    types = []

    class Stop(Exception):
        pass

    def noted(self, *, for_all=False):
        types.append(numba.typeof(self._world))
        if not for_all:
            raise Stop

    monkeypatch.setattr(simulation.Simulation, "prepare", noted)
    warm.compile_copies([GENERAL])
    with pytest.raises(Stop):
        sl.roll_out(PLAN, BOARD, engine="compiled", progress=False)
    assert types[0] == types[1]


def test_the_command_compiles_nothing_that_it_was_not_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(warm, "compile_copies", lambda copies: asked.extend(copies))
    monkeypatch.setattr(warm, "end_with", lambda _parent: None)
    monkeypatch.setattr(warm.signal, "signal", lambda *_: None)
    warm._main(["polls", "general"])
    assert asked == [POLLS, GENERAL]


def test_what_compiles_beside_a_process_ends_with_it(monkeypatch, tmp_path):
    followed = []
    monkeypatch.setattr(warm, "end_with", followed.append)
    monkeypatch.setattr(warm, "give_way", lambda _process: None)
    monkeypatch.setattr(warm, "compile_copies", lambda _copies: None)
    monkeypatch.setattr(warm, "missing", list)
    monkeypatch.setattr(warm, "_end_if_it_takes_too_long", lambda: None)
    monkeypatch.setattr(simulation, "loops_of", lambda _copy: Kept(False, str(tmp_path)))
    warm._main(["--ahead", "123"])
    assert followed == [123]
