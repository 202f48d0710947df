"""An interrupt of a notebook's kernel stops the cells that follow, and keeps what was finished."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

import simlib as sl

# What waits for a kernel is tried once more, as the machine may have been busy.
pytestmark = pytest.mark.flaky(reruns=1)
ROOT = Path(__file__).parent.parent
SETUP = """
import simlib as sl
from simlib.engines.reference import Simulation

slices, run_until = [], Simulation.run_until

def told(self, t):
    run_until(self, t)
    slices.append(t)
    if len(slices) == 20:  # some short runs are over by then
        print("under way", flush=True)

Simulation.run_until = told
board = sl.Scenario(updates={"rate_per_s": 0.1}, clients=5, ramp_s=0, horizon_s=600)
endless = board.replace({"clients": 50, "horizon_s": 1e6, "polling.interval_s": 0.5})
plan = sl.Plan(
    flag={"propagation": "polled", "every_s": 10}, stages=[{"percent": 50, "bake_s": 120}]
)
quiet = {"progress": False}
few = {"engine": "simpy", "on": "serial", "replications": 2, **quiet}
many = {**few, "replications": 10_000}
# All is imported before an interrupt may come.
sl.sweep(board, [{"clients": 5}], **few)
sl.rehearse(plan, board, **few)
"""
CALLS = {
    "simulate": ("sl.simulate(endless, engine='simpy', **quiet)", "kept.is_complete"),
    "replicate": ("sl.replicate(board, 10_000, engine='simpy', **quiet)", "len(kept) == 0"),
    "sweep": (
        "sl.sweep(board, [{'clients': 5}], at_most=10_000, **many)",
        "kept.attrs['complete']",
    ),
    "compare": ("sl.compare(board, board, **many)", "len(kept) == 0"),
    "roll_out": ("sl.roll_out(plan, endless, engine='simpy', **quiet)", "kept.run.is_complete"),
    "rehearse": ("sl.rehearse(plan, board, **many)", "kept.is_complete"),
}
LIMIT_S = 120


@pytest.fixture(scope="module")
def kernel():
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "PYTHONPATH": path}
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT), env=env)
    try:
        reply = client.execute_interactive(SETUP, timeout=LIMIT_S, output_hook=lambda _: None)
        assert reply["content"]["status"] == "ok"
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def reply_to(client, sent):
    while True:
        reply = client.get_shell_msg(timeout=LIMIT_S)
        if reply["parent_header"]["msg_id"] == sent:
            return reply["content"]


def await_print(client, sent):
    while True:
        message = client.get_iopub_msg(timeout=LIMIT_S)
        is_ours = message["parent_header"].get("msg_id") == sent
        if is_ours and message["msg_type"] == "stream":
            return


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_stops_the_queued_cells_and_what_was_finished_is_kept(kernel, name):
    manager, client = kernel
    call, is_whole = CALLS[name]
    first = client.execute(f"after = 'never run'\nslices.clear()\n{call}")
    queued = client.execute("after = 'run'")
    await_print(client, first)  # each call would take many minutes
    manager.interrupt_kernel()
    stopped = reply_to(client, first)
    assert (stopped["status"], stopped["ename"]) == ("error", "Interrupted")
    assert "simlib.interrupted() returns what there is" in stopped["evalue"]
    assert reply_to(client, queued)["status"] == "aborted"

    said = []
    asked = f"kept = sl.interrupted()\nprint(after, {is_whole}, type(kept).__name__)"
    client.execute_interactive(
        asked,
        timeout=LIMIT_S,
        output_hook=lambda message: said.append(
            str(message["content"].get("text", message["content"].get("evalue", "")))
        ),
    )
    assert "".join(said).startswith("never run False")


def test_without_an_interrupt_there_is_nothing_to_return():
    with pytest.raises(sl.SimlibError, match="nothing was interrupted"):
        sl.interrupted()
