"""What the real server brings back, against the simulation of the same rules."""

from __future__ import annotations

import pytest

import simlib as sl

pytestmark = pytest.mark.live

SCALE = 3.0
BOARD = sl.Scenario(
    transport="websocket",
    clients=40,
    ramp_s=2.0,
    horizon_s=17.9,  # the last is back at 16 s, and nothing changes for 0.8 s before the end
    warm_up_s=4.0,
    updates={"rate_per_s": 2.0},
    heartbeat={"direction": "none"},
    reconnect={"policy": "full_jitter", "base_s": 4.0, "cap_s": 4.0},
    faults=[{"kind": "reset", "start_s": 10.0}],
)
REPLAY = {"websocket.resync": "replay", "websocket.replay_changes": 3}
RECOVERY = {"websocket.resync": "recovery", "websocket.recovery_s": 2.0}
RESTART = [{"kind": "restart", "start_s": 10.0, "length_s": 2.0}]


def both(**changes):
    live = sl.measure(BOARD.replace(changes), seed=3, time_scale=SCALE, progress=False)
    simulated = sl.simulate(live.scenario, seed=3, progress=False)
    ledger = live.ledger
    assert ledger.delivered + ledger.lost + ledger.pending == ledger.eligible
    return live, simulated


@pytest.mark.parametrize(
    ("changes", "loses"),
    [
        (REPLAY, True),
        ({**REPLAY, "websocket.or_snapshot": True}, False),
        ({**REPLAY, "websocket.replay_changes": 1000, "wire.envelope": "socketio"}, False),
        (RECOVERY, True),
        ({**RECOVERY, "websocket.recovery_s": 60.0, "wire.envelope": "sockjs"}, False),
        ({**REPLAY, "websocket.replay_changes": 1000, "faults": RESTART}, True),
    ],
    ids=[
        "a short log",
        "or a snapshot",
        "a long log",
        "a session that may end",
        "a session",
        "a log that dies",
    ],
)
def test_what_is_replayed_and_what_is_lost_is_as_simulated(changes, loses):
    live, simulated = both(**changes)
    assert (simulated.ledger.lost > 0) == loses
    assert live.ledger.lost == pytest.approx(simulated.ledger.lost, rel=0.15, abs=3)
    messages = [run.frame("clients")["messages"].sum() for run in (live, simulated)]
    assert messages[0] == pytest.approx(messages[1], rel=0.01)
    totals = [run.frame("timeline").sum() for run in (live, simulated)]
    # On a busy machine some are back after one change more, and get a snapshot in place of changes.
    snapshots = (
        4 * live.scenario.updates.snapshot_bytes if live.scenario.websocket.or_snapshot else 0
    )
    for name, error_frac, or_bytes in (
        ("payload_up_bytes", 0.01, 0),
        ("payload_down_bytes", 0.02, snapshots),
    ):
        assert totals[0][name] == pytest.approx(totals[1][name], rel=error_frac, abs=or_bytes)


def test_a_token_that_is_sent_again_too_late_strands_the_client():
    live, simulated = both(
        **{"websocket.token_valid_s": 10.5, "websocket.token_resent": True, "ramp_s": 4.0}
    )
    connections = [run.frame("clients")["connections"].tolist() for run in (live, simulated)]
    again = [sum(n > 1 for n in each) for each in connections]
    assert 0 < again[1] < 40
    assert again[0] == pytest.approx(again[1], abs=2)
    errors = [run.frame("clients")["errors"].sum() for run in (live, simulated)]
    assert errors[0] == pytest.approx(errors[1], abs=4)
