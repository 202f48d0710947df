"""How processes end: nothing outlives a sweep or a report that is stopped or killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import simlib as sl
from simlib.processes import terminable

# What waits for other processes is tried once more, as the machine may have been busy.
pytestmark = pytest.mark.flaky(reruns=1)

ROOT = Path(__file__).parents[1]
SWEEP = """
import os, sys, simlib as sl
board = sl.Scenario(updates={"rate_per_s": 0.5}, clients=200, horizon_s=600.0)
print("ready", flush=True)
try:
    table = sl.sweep(
        board, {"clients": [200, 201]}, replications=60, engine="simpy", on="processes", workers=2,
        progress=False,
    )
except sl.Interrupted as stop:
    table = stop.result
print("complete", table.attrs["complete"], flush=True)
"""
PATIENCE_S = 120.0  # loky's workers would wait for 300 s
STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def ends_what_it_started():
    """A test that has failed leaves no process behind, and no pipe."""
    yield
    while STARTED:
        with STARTED.pop() as process, contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def started(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program in a group of its own, so that a signal reaches it alone."""
    process = subprocess.Popen(
        [sys.executable, *(["-c", program] if program else []), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    STARTED.append(process)
    return process


def wait_until(holds, what):
    ends_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends_s, what
        time.sleep(0.05)


def workers_of(process):
    """The processes of a sweep that have worked for a while: its workers."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if child.cpu_times().user > 1.0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=str)
def test_nothing_of_a_sweep_outlives_its_parent(number):
    sweep = started(SWEEP)
    assert sweep.stdout.readline() == "ready\n"
    wait_until(lambda: len(workers_of(sweep)) >= 2, "the workers work")
    children = psutil.Process(sweep.pid).children(recursive=True)
    sweep.send_signal(number)
    # The pipe is closed only when all who hold it are gone.
    said, errors = sweep.communicate(timeout=PATIENCE_S)
    wait_until(lambda: not any(child.is_running() for child in children), "all are gone")
    if number is not signal.SIGKILL:
        assert (said, sweep.returncode) == ("complete False\n", 0), errors


def test_a_worker_that_is_terminated_is_replaced_and_nothing_is_lost():
    program = SWEEP.replace("replications=60", "replications=8")
    sweep = started(program)
    assert sweep.stdout.readline() == "ready\n"
    wait_until(lambda: len(workers_of(sweep)) >= 1, "a worker works")
    workers_of(sweep)[0].terminate()
    said, errors = sweep.communicate(timeout=4 * PATIENCE_S)
    assert (said, sweep.returncode) == ("complete True\n", 0), errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_run_is_interrupted_by_sigterm_as_by_ctrl_c(number, monkeypatch):
    from simlib.engines.reference import Simulation

    real = Simulation.run_until

    def run_until(self, t):
        real(self, t)
        if t >= 30.0:
            signal.raise_signal(number)

    monkeypatch.setattr(Simulation, "run_until", run_until)
    board = sl.Scenario(updates={"rate_per_s": 0.5}, clients=50, horizon_s=600.0)
    with pytest.raises(sl.Interrupted) as stopped:
        sl.simulate(board, engine="simpy", progress=False)
    run = stopped.value.result
    assert not run.is_complete
    assert run.provenance["interrupted"]
    with pytest.raises(sl.Interrupted, match="0 of 3 runs were finished") as stopped:
        sl.replicate(board, 3, engine="simpy", progress=False)
    assert stopped.value.result == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("ctrl_c", [signal.SIG_IGN, signal.default_int_handler])
def test_sigterm_is_heard_where_ctrl_c_is_ignored(ctrl_c):
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        with pytest.raises(KeyboardInterrupt), terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_program_keeps_its_own_answer_to_sigterm_and_threads_have_none():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]

    def in_a_thread():
        with terminable():
            heard.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert heard == [1, signal.SIG_DFL]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_a_report_that_is_stopped_ends_clean(number, tmp_path):
    import nbformat

    slow = [tmp_path / "one.ipynb", tmp_path / "other.ipynb"]
    for path in slow:
        begun = f"from pathlib import Path; _ = Path({str(path.with_suffix(''))!r}).write_text('x')"
        cells = [nbformat.v4.new_code_cell(c) for c in (begun, "import time; time.sleep(600)")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    given = map(str, slow)
    report = started("", "-m", "simlib.publish.report", *given, "--out", str(tmp_path / "out"))
    for path in slow:
        wait_until(path.with_suffix("").exists, "the first cell has run")
    children = psutil.Process(report.pid).children(recursive=True)
    report.send_signal(number)
    _, errors = report.communicate(timeout=PATIENCE_S)
    assert report.returncode == 130, errors
    assert "stopped; the pages made so far are kept" in errors
    assert "Error" not in errors
    assert "Traceback" not in errors
    wait_until(lambda: not any(child.is_running() for child in children), "the kernel is gone")
