"""The real server is killed and started anew: who comes back when, and what is lost."""

from __future__ import annotations

from functools import cache

import psutil
import pytest

import simlib as sl
from simlib.analysis import outages
from simlib.live import lab
from simlib.live.ipc import Child
from simlib.live.messages import Progress
from tests.live.together import Together

pytestmark = pytest.mark.live

SCALE = 2.0
RESTART = {"kind": "restart", "start_s": 6.0, "length_s": 4.0}
BOARD = sl.Scenario(
    transport="websocket",
    clients=60,
    ramp_s=4.0,
    horizon_s=16.0,  # the last is back at 14 s
    updates={"rate_per_s": 1.0},
    websocket={"resync": "none"},
    reconnect={"policy": "full_jitter", "base_s": 1.0, "cap_s": 4.0},
    faults=[RESTART],
)


@pytest.fixture(autouse=True)
def leaves_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def both(scenario):
    live = sl.measure(scenario, seed=2, time_scale=SCALE, progress=False)
    return live, sl.simulate(live.scenario, seed=2, progress=False)


def test_a_killed_servers_clients_come_back_when_predicted():
    live, simulated = both(BOARD)
    measured, predicted = outages.reconnections(live, simulated).to_dict("records")
    assert measured["cut"] == predicted["cut"] == 60
    assert measured["back_frac"] == 1.0
    for quantile in ("t50_s", "t95_s", "t100_s"):
        assert measured[quantile] == pytest.approx(predicted[quantile], abs=0.25 * SCALE)
    assert measured["attempts"] == pytest.approx(predicted["attempts"], rel=0.05)
    assert measured["lost"] == pytest.approx(predicted["lost"], rel=0.1)
    assert measured["lost"] > 2.0
    busy = live.frame("timeline").set_index("t_s")["utilisation"]
    assert (busy.loc[7.0:9.0] < 0.05).all()
    assert busy.loc[11.0:].sum() > 0.0  # the second server has told its bins too


def test_with_a_snapshot_on_return_three_kills_lose_nothing():
    kills = [{"kind": "restart", "start_s": 5.0, "length_s": 1.0, "repeat_s": 7.0}]
    live, simulated = both(
        BOARD.replace(
            {
                "websocket.resync": "snapshot",
                "updates.rate_per_s": 5.0,
                "horizon_s": 25.5,
                "faults": kills,
            }
        )
    )
    ledger = live.ledger
    assert ledger.delivered + ledger.lost + ledger.pending == ledger.eligible
    assert ledger.lost == 0
    assert ledger.eligible == simulated.ledger.eligible
    assert (live.frame("clients")["connections"] == 4).all()


def test_more_restarts_than_servers_can_stand_by_are_refused():
    kills = [RESTART, {**RESTART, "start_s": 11.0, "length_s": 0.01, "repeat_s": 0.1}]
    with pytest.raises(sl.ScenarioError, match=r"^faults\.1\.repeat_s: must keep restarts at 32"):
        sl.measure(BOARD.replace(faults=kills), progress=False)


def test_an_interrupt_during_the_outage_does_not_wait_for_its_end(monkeypatch):
    left = [KeyboardInterrupt]

    class Interrupted(Child):
        def receive(self, timeout_s):
            message = super().receive(timeout_s)
            if left and isinstance(message, Progress) and message.t > 8.0:
                raise left.pop()
            return message

    monkeypatch.setattr(lab, "Child", Interrupted)
    outage = RESTART | {"length_s": 100.0}  # longer than a process may be silent
    board = BOARD.replace({"faults": [outage], "horizon_s": 120.0})
    with pytest.raises(sl.Interrupted, match=r"the run came to .* of 120 s") as stopped:
        sl.measure(board, time_scale=SCALE, progress=False)
    live = stopped.value.result
    assert not left
    assert not live.is_complete
    assert 8.0 < live.provenance["end_of_run_s"] < 100.0


def test_a_polling_board_outlives_a_restart():
    live, _ = both(BOARD.replace({"transport": "polling", "polling.interval_s": 3.0}))
    assert live.ledger.lost == 0
    clients = live.frame("clients")
    assert clients["errors"].sum() > 0
    assert (clients["connections"] >= 2).mean() > 0.9


def test_a_client_that_falls_back_polls_the_real_server():
    live, simulated = both(
        BOARD.replace(
            {
                "horizon_s": 18.0,
                "fallback": {"after_failures": 2, "return_s": 6.0},
                "polling.interval_s": 2.0,
                "polling.retry_cap_s": 1.0,
            }
        )
    )
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert ours["fallbacks"].sum() > 30
    assert ours["fallbacks"].sum() == pytest.approx(theirs["fallbacks"].sum(), abs=6)
    assert live.ledger.lost == pytest.approx(simulated.ledger.lost, abs=12)
    assert (ours["connections"] >= 3).mean() > 0.5  # a socket, polls, and a socket again


def test_the_real_server_ends_sockets_of_a_certain_age():
    limit = {"kind": "lifetime", "start_s": 8.0, "length_s": 10.0, "age_s": 5.0, "share": 0.7}
    live, simulated = both(
        BOARD.replace({"faults": [limit], "horizon_s": 18.0, "websocket.resync": "snapshot"})
    )
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert 20 < (ours["connections"] > 1).sum() < 60
    assert ours["connections"].eq(1).equals(theirs["connections"].eq(1))
    assert ours["connections"].sum() == pytest.approx(theirs["connections"].sum(), abs=3)
    measured, predicted = (
        run.frame("connections").query("cause == 'closed_by_server'") for run in (live, simulated)
    )
    firsts = [table.groupby("client")["closed_s"].first() for table in (measured, predicted)]
    assert firsts[0].to_numpy() == pytest.approx(firsts[1].to_numpy(), abs=0.1 * SCALE)
    assert live.ledger.lost == 0


CUTS = {
    "reset": ({"kind": "reset", "start_s": 6.0, "share": 0.5}, 11.0),
    "drain": ({"kind": "drain", "start_s": 6.0, "length_s": 6.0, "batches": 3}, 15.0),
}


@cache
def cut():
    """Each fault that cuts connections, with each transport; all are measured once."""
    scenarios = {
        (name, transport): BOARD.replace(
            {
                "faults": [fault],
                "transport": transport,
                "horizon_s": horizon_s,
                "polling.interval_s": 3.0,
                "websocket.resync": "snapshot",
            }
        )
        for name, (fault, horizon_s) in CUTS.items()
        for transport in ("websocket", "polling")
    }
    return Together(scenarios, seed=2, time_scale=SCALE)


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("fault", CUTS)
def test_whom_the_real_server_cuts_is_whom_the_simulation_cuts(fault, transport):
    live = cut()[fault, transport]
    simulated = sl.simulate(live.scenario, seed=2, progress=False)
    ours, theirs = live.frame("clients"), simulated.frame("clients")
    assert ours["connections"].equals(theirs["connections"])
    assert (ours["connections"] == 2).sum() > 15
    assert live.ledger.lost == 0
