"""How many nodes are enough, against the closed form, and what is refused."""

from __future__ import annotations

import pytest

import simlib as sl

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
    options = {"replications": 5, "engine": "simpy", "progress": False, **options}
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
    options = {"replications": 2, "engine": "simpy", "progress": False}
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
        ({"below": "0.1 s"}, r"below: must be a number"),
        ({"below": float("nan")}, r"below: must be a number"),
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
            engine="simpy",
            progress=False,
        )
