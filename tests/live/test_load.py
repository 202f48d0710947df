"""What a scenario asks of the lab, and when that is refused before it starts."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

import simlib as sl
from simlib.core.protocol import Transport
from simlib.live import lab, load
from simlib.live.load import Machine, check_load, rates_of
from simlib.live.loopback import on_loopback
from simlib.scenario import compile_workload

QUIET = Machine(slowness=1.0, share=1.0)
BOARD = sl.Scenario(
    clients=5000,
    ramp_s=0.0,
    horizon_s=600.0,
    updates={"rate_per_s": 0.1},
    polling={"interval_s": 10.0},
)


def asked(scenario, time_scale, machine=QUIET):
    scenario = on_loopback(scenario, time_scale=time_scale)
    workload = compile_workload(scenario, 1, 0)
    return check_load(scenario, workload, time_scale=time_scale, machine=machine)


def test_what_is_asked_is_the_rate_times_the_time_scale():
    server_s = load.BUSY_S["server"]["poll"]
    assert asked(BOARD, 2.0)["server"] == pytest.approx(1000.0 * server_s)
    slow = asked(BOARD.replace(clients=500), 2.0, Machine(slowness=2.0, share=0.5))
    assert slow["server"] == pytest.approx(100.0 * server_s * 4.0)
    pushed = asked(BOARD.replace({"transport": "websocket", "updates.rate_per_s": 1.0}), 1.0)
    assert pushed["clients"] > pushed["server"] > 0.05


@pytest.mark.parametrize(
    ("transport", "rate"),
    [("polling", "poll"), ("websocket", "push"), ("notify", "push"), ("long_polling", "poll")],
)
def test_more_than_the_machine_bears_is_refused_with_what_would_fit(transport, rate):
    crowd = BOARD.replace({"transport": transport, "updates.rate_per_s": 0.5})
    with pytest.raises(sl.LiveError, match=r"5,000 clients ask for .*: .* times what") as refused:
        asked(crowd, 100.0)
    words = str(refused.value)
    assert {"poll": "requests/s", "push": "pushed messages/s"}[rate] in words
    fits, clients = re.findall(r"time_scale must be <= ([\d.]+), or at most ([\d,]+)", words)[0]
    assert max(asked(crowd, float(fits))[name] for name in ("server", "clients")) <= load.FITS
    small = crowd.replace(clients=int(clients.replace(",", "")))
    assert max(asked(small, 100.0)[name] for name in ("server", "clients")) <= load.FITS * 1.1


@pytest.mark.parametrize("time_scale", [1.0, 1.5])
def test_where_no_time_scale_fits_the_number_of_clients_is_given(time_scale):
    crowd = BOARD.replace({"polling.interval_s": 0.1, "clients": 2000})
    with pytest.raises(sl.LiveError, match="clients must be <=") as refused:
        asked(crowd, time_scale)
    assert ("at time_scale 1" in str(refused.value)) == (time_scale > 1.0)


@pytest.mark.parametrize(
    ("transport", "poll_s"),
    [("polling", 0.0), ("notify", 0.0), ("sse_notify", 0.0), ("websocket", 5e-4), ("sse", 5e-4)],
)
def test_where_versions_are_compared_that_is_all_the_work_of_the_labs_board(transport, poll_s):
    """Clients that are pushed everything have only safety polls, which name no version."""
    board = BOARD.replace({"transport": transport, "polling.etag": "version"})
    assert on_loopback(board).server.poll_s == poll_s


def test_a_client_that_waits_before_it_fetches_asks_for_less():
    board = BOARD.replace({"transport": "notify", "updates.rate_per_s": 5.0})
    waits = board.replace({"notify.spread_s": 10.0})
    polls = [
        rates_of(one, compile_workload(one, 1, 0), Transport.NOTIFY)["poll"]
        for one in (board, waits)
    ]
    assert polls[1] < 0.1 * polls[0]


def test_measure_refuses_before_any_process_starts(monkeypatch):
    def never(*_arguments):
        raise AssertionError("a process was started")

    monkeypatch.setattr(lab, "_run_processes", never)
    with pytest.raises(sl.LiveError, match="times what this machine bears now"):
        sl.measure(BOARD, time_scale=100.0, progress=False)


def test_a_machine_that_is_too_busy_for_the_calibration_is_measured_by_one_burst(monkeypatch):
    monkeypatch.setattr(load, "_CALIBRATION_S", 0.0)
    assert load.machine_now().slowness >= 0.1


def test_a_machine_is_as_slow_as_its_round_trips_and_gives_what_is_not_waited_for(monkeypatch):
    walls_s, cpus_s = iter([5.0, 5.2, 5.4, 5.4]), iter([1.0, 1.1])
    clocks = SimpleNamespace(perf_counter=walls_s.__next__, process_time=cpus_s.__next__)
    monkeypatch.setattr(load, "time", clocks)
    machine = load.machine_now()
    assert machine.share == pytest.approx(0.1 / 0.4)
    assert machine.slowness == pytest.approx(0.1 / (2 * load._BURST) / load.ROUND_TRIP_S, rel=1e-3)
