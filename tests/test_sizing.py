"""How many nodes are enough, against the closed form, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from tests.quick import ENGINE

BOARD = sl.Scenario(
    updates={"rate_per_s": 0.1},
    transport="websocket",
    clients=200,
    ramp_s=5.0,
    horizon_s=200.0,
    heartbeat={"direction": "none"},
    server={"send_s": 2e-3, "fan_out_s": 0.0, "hop_s": 0.0},
)


def needed(below, over="server.nodes", **options):
    options = {"replications": 5, "engine": ENGINE, "progress": False, **options}
    return sl.fewest(BOARD, over, "latency_p95_s", below=below, **options)


def test_as_many_nodes_are_enough_as_the_closed_form_says():
    """With n nodes the share of 200 / n clients waits 0.95 of its 2 ms each, plus half a trip."""
    table = needed(below=0.135)
    expected = {nodes: 0.02 + 0.95 * 200 / nodes * 2e-3 < 0.135 for nodes in table["server.nodes"]}
    assert table.attrs["fewest"] == 4
    assert dict(zip(table["server.nodes"], table["is_below"], strict=True)) == expected
    assert table["server.nodes"].tolist() == [1, 2, 3, 4]
    assert needed(below=0.135, over="server.workers").attrs["fewest"] == 4


def test_one_may_be_enough_and_all_too_few():
    assert needed(below=1.0)["server.nodes"].tolist() == [1]
    few = needed(below=0.001, most=3)
    assert few.attrs["fewest"] is None
    assert few["server.nodes"].tolist() == [1, 2, 3]
    assert not few["is_below"].any()


def test_the_search_begins_where_it_is_told_to():
    """A rolling deploy is refused on one node, and so would be a search that begins there."""
    deploy = {"kind": "rolling_deploy", "start_s": 50.0, "length_s": 5.0, "every_s": 10.0}
    options = {"replications": 2, "engine": ENGINE, "progress": False}
    ask = {"over": "server.nodes", "metric": "latency_p50_s", "below": 0.13, **options}
    deployed = BOARD.replace({"clients": 50, "server.nodes": 2, "faults": [deploy]})
    assert sl.fewest(deployed, least=2, **ask)["server.nodes"].min() == 2
    with pytest.raises(sl.ScenarioError, match=r"faults.0.kind: must not be rolling_deploy"):
        sl.fewest(deployed, **ask)
    assert needed(below=0.135, least=3)["server.nodes"].tolist() == [3, 4, 6]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"metric": "p95"},
            r"metric: must be a column of metrics.table; did you mean latency_p95_s",
        ),
        ({"over": "server.node"}, r"server.node: is not a known field; did you mean server.nodes"),
        ({"below": "0.1 s"}, r"below: must be a finite number"),
        ({"below": float("nan")}, r"below: must be a finite number"),
        ({"below": float("inf")}, r"below: must be a finite number"),
        ({"most": 0}, r"most: must be a whole number >= 1"),
        ({"least": 0}, r"least: must be a whole number >= 1"),
        ({"least": 3, "most": 2}, r"most: must be a whole number >= 3"),
        ({"over": ["server.nodes"]}, r"over: must be the path of one setting"),
        ({"over": None}, r"over: must be the path of one setting"),
        ({"most": 200}, r"server.nodes: must be <= 64, got 200"),
        ({"replications": 1}, r"replications: must be a whole number >= 2"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_runs(changes, words, monkeypatch):
    monkeypatch.setattr("simlib.experiment.collect", None)
    given = {"over": "server.nodes", "metric": "latency_p95_s", "below": 0.1, **changes}
    with pytest.raises(sl.ScenarioError, match=words):
        sl.fewest(BOARD, given.pop("over"), given.pop("metric"), **given)


def test_a_metric_without_a_value_is_no_answer():
    with pytest.raises(sl.ScenarioError, match=r"metric: must have a value .* server.nodes = 1"):
        sl.fewest(
            BOARD.replace({"updates.rate_per_s": 0, "clients": 5}),
            "server.nodes",
            "latency_p95_s",
            below=0.1,
            replications=2,
            engine=ENGINE,
            progress=False,
        )


POLLED = sl.Scenario(
    updates={"rate_per_s": 0.2},
    ramp_s=10.0,
    horizon_s=310.0,
    warm_up_s=40.0,
    polling={"interval_s": 10.0},
    server={"poll_s": 50e-3},
)
CHEAP = {"replications": 3, "engine": ENGINE, "on": "serial", "progress": False}


def test_polls_keep_the_server_as_busy_as_their_rate_says():
    """N clients poll every 10 s and their fetch: 50 ms each, N / 200 of the time, half of it."""
    needs = {"utilisation": 0.5, "latency_p95_s": 30.0}
    found = sl.find_limit(POLLED, "clients", needs, least=10, most=500, **CHEAP)
    expected = 0.5 / (50e-3 * sl.theory.poll_request_rate_per_s(1, 10.0, fetch_s=0.1))
    assert found.attrs["breaks"] == ("utilisation",)
    assert found.attrs["limit"] == pytest.approx(expected, rel=0.05)
    assert found.attrs["theory"]["utilisation"] == pytest.approx(found.attrs["limit"], rel=0.05)
    assert "latency_p95_s" not in found.attrs["theory"]  # its form ends before the limit
    for name in needs:
        assert found[f"{name}_theory"].to_numpy() == pytest.approx(found[name], rel=0.05)
    held = found[found["clients"] <= found.attrs["limit"]]
    assert (held["breaks"] == "").all()
    assert found["clients"].is_monotonic_increasing
    assert (found["utilisation_high"] >= found["utilisation"]).all()


@pytest.mark.parametrize(
    ("every_s", "first", "expected"),
    [(10.0, "latency_p95_s", (0.3 - 0.02) / (0.95 * 2e-3)), (0.5, "utilisation", 0.5 * 0.5 / 2e-3)],
)
def test_what_breaks_first_depends_on_how_often_the_board_changes(every_s, first, expected):
    """A broadcast takes 2 ms a client: 95 % are served in 0.3 s, or it takes half of the time."""
    times = [every_s * k for k in range(1, int(200.0 / every_s))]
    board = BOARD.replace({"updates": {"kind": "times", "publish_s": times}, "horizon_s": 65.0})
    needs = {"latency_p95_s": 0.3, "utilisation": 0.5}
    found = sl.find_limit(board, "clients", needs, least=20, most=1000, **CHEAP)
    assert found.attrs["breaks"] == (first,)
    assert found.attrs["limit"] == pytest.approx(expected, rel=0.06)


def test_a_limit_may_lie_below_or_above_what_is_tried():
    needs = {"utilisation": 0.5}
    ask = {"needs": needs, "closeness": 0.5, **CHEAP}
    none = sl.find_limit(POLLED, "clients", least=200, most=300, **ask)
    assert (none.attrs["limit"], none.attrs["breaks"]) == (None, ("utilisation",))
    assert none["clients"].tolist() == [200]
    every = sl.find_limit(POLLED, "clients", least=2, most=3, **ask)
    assert (every.attrs["limit"], every.attrs["breaks"]) == (3, ())


def test_whole_numbers_stay_whole_and_others_do_not():
    needs = {"utilisation": 0.5}
    few = POLLED.replace({"server.poll_s": 0.4})
    whole = sl.find_limit(few, "clients", needs, least=2.0, most=64, closeness=0.001, **CHEAP)
    assert all(isinstance(value, int) for value in whole["clients"].tolist())
    assert whole.attrs["limit"] + 1 in whole["clients"].tolist()
    rates = {"needs": needs, "least": 1, "most": np.int64(64), **CHEAP}
    pushed = BOARD.replace({"horizon_s": 65.0})
    often = sl.find_limit(pushed, "updates.rate_per_s", **rates)
    assert often.attrs["limit"] == pytest.approx(0.5 / 200 / 2e-3, rel=0.15)
    assert len(often) > 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenario": "matters"}, r"scenario: must be a Scenario: Scenario.load reads one from"),
        ({"engin": "simpy"}, r"options: must be among seed, engine, .*; did you mean engine\?"),
        ({"needs": {}}, r"needs: must be a mapping of metrics to their limits, such as \{"),
        ({"needs": {"p95": 1.0}}, r"needs: must be a column of metrics.table; did you mean latenc"),
        ({"needs": {"utilisation": "80 %"}}, r"needs.utilisation: must be a finite number"),
        ({"needs": {"utilisation": 10**400}}, r"needs.utilisation: must be a finite number"),
        ({"needs": {"utilisation": float("inf")}}, r"needs.utilisation: must be a finite number"),
        ({"over": "client"}, r"client: is not a known field; did you mean clients"),
        ({"over": None}, r"over: must be the path of one setting"),
        ({"least": 0}, r"least: must be in \(0, inf\)"),
        ({"most": 1}, r"most: must be in \[10, inf\)"),
        ({"most": 10**12}, r"clients: must be <= "),
        ({"closeness": 0.0}, r"closeness: must be in \[0.001, 1\]"),
        ({"replications": 1}, r"replications: must be a whole number >= 2"),
    ],
)
def test_a_limit_that_cannot_be_looked_for_is_refused_before_anything_runs(
    changes, words, monkeypatch
):
    monkeypatch.setattr("simlib.experiment.collect", None)
    given = {"scenario": POLLED, "over": "clients", "needs": {"utilisation": 0.5}}
    given |= {"least": 10, "most": 20, **changes}
    with pytest.raises(sl.ScenarioError, match=words):
        sl.find_limit(given.pop("scenario"), given.pop("over"), given.pop("needs"), **given)


def test_broadcasts_and_bytes_have_closed_forms_beside_their_limits():
    pushed = POLLED.replace({"transport": "websocket", "server.send_s": 10e-3, "clients": 10})
    needs = {"utilisation": 0.5, "down_bytes_per_h": 1e7}
    found = sl.find_limit(pushed, "updates.rate_per_s", needs, least=1.0, most=9.0, **CHEAP)
    assert found.attrs["breaks"] == ("utilisation",)
    assert found.attrs["theory"]["utilisation"] == pytest.approx(0.5 / 0.1, rel=0.01)
    assert found.attrs["limit"] == pytest.approx(found.attrs["theory"]["utilisation"], rel=0.08)
    for name in needs:
        has_form = found[f"{name}_theory"].notna()
        assert has_form.any()
        assert found[f"{name}_theory"][has_form].to_numpy() == pytest.approx(
            found[name][has_form], rel=0.1
        )


def test_where_theory_has_no_form_nothing_is_said():
    hidden = POLLED.replace({"hidden": {"every_s": 60.0, "length_s": 10.0}})
    needs = {"utilisation": 0.5, "latency_p99_s": 300.0}
    found = sl.find_limit(hidden, "clients", needs, least=10, most=20, **CHEAP)
    assert found.attrs["theory"] == {}
    assert found["utilisation_theory"].isna().all()
    # The form ends at 90 %, where the limit is not reached: that is no limit by theory.
    far = {"utilisation": 0.97}
    slow = POLLED.replace({"server.poll_s": 1.0})
    assert sl.find_limit(slow, "clients", far, least=5, most=30, **CHEAP).attrs["theory"] == {}
