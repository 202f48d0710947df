"""What would change a verdict: where two candidates cross, and which assumption matters most."""

from __future__ import annotations

import math

import numpy as np
import pytest

import simlib as sl
from simlib.verdict import ASSUMPTIONS, break_even, judging, sentence_of, sobol, tornado
from simlib.verdict.assumptions import ranges_of, switches_of
from simlib.verdict.decision import Asked
from simlib.verdict.sensitivity import changed, expected, value_of
from tests.quick import QUICK

BOARD = sl.Scenario(
    name="small",
    updates={"rate_per_s": 0.1},
    clients=8,
    ramp_s=20.0,
    warm_up_s=30.0,
    horizon_s=240.0,
    cool_down_s=30.0,
)
RATE = "updates.rate_per_s"


def decided(needs, board=BOARD, **options):
    return sl.decide(board, needs, **{**QUICK, **options})


@pytest.fixture(scope="module")
def decision():
    names = ["poll_etag", "push", "push_snapshots"]
    return decided({"latency_p95_s": 60.0, "utilisation": 0.5}, candidates=names)


# -- break-even ------------------------------------------------------------------------------------


def test_bytes_break_even_where_the_closed_form_says(decision):
    """`bytes_by_rate` solves the crossing by its own formula."""
    for other, name in (("today", "crossover_per_s"), ("poll_etag", "crossover_etag_per_s")):
        table = break_even(decision, RATE, one="push", other=other)
        theory = sl.metrics.bytes_by_rate(BOARD, [1.0]).attrs[name]
        assert table["value"].iloc[0] == pytest.approx(theory, rel=0.01)
        row = table.iloc[0]
        assert (row["by"], row["below"], row["above"]) == ("closed form", "push", other)
        assert row["low"] == row["value"] == row["high"]


def test_a_crossing_is_the_same_from_either_side(decision):
    there = break_even(decision, RATE, one="push", other="today")
    back = break_even(decision, RATE, one="today", other="push")
    assert back["value"].tolist() == pytest.approx(there["value"].tolist())
    assert back[["below", "above"]].equals(there[["below", "above"]])
    curves = there.attrs["curves"]
    assert curves[RATE].is_monotonic_increasing
    below = curves[RATE] < there["value"].iloc[0]
    assert ((curves["push"] < curves["today"]) == below).all()


def test_whole_numbers_break_even_at_the_first_of_the_other_side(decision):
    """Push sends to all clients at each change; polls come at a rate of their own."""
    hot = BOARD.replace({"server.fan_out_s": 0.05, "server.send_s": 1e-3, "server.poll_s": 0.03})
    found = decided({"utilisation": 0.9}, hot, candidates=["push"])
    table = break_even(found, "clients", measure="utilisation", one="push", other="today")
    value = int(table["value"].iloc[0])
    assert table["value"].iloc[0] == value
    busy = {
        clients: [
            expected(one.replace(clients=clients), found.asked.needs)["utilisation"]
            for one in (found.cases["push"].scenario, hot)
        ]
        for clients in (value - 1, value)
    }
    assert busy[value - 1][0] > busy[value - 1][1]
    assert busy[value][0] < busy[value][1]


def test_without_a_crossing_the_table_is_empty(decision):
    table = break_even(decision, "network.rtt_s", one="push", other="today")
    assert len(table) == 0
    assert len(table.attrs["curves"]) > 10


def test_patience_changes_the_verdict_where_the_next_candidate_meets_the_need(decision):
    strict = decided({"latency_p95_s": 2.0}, candidates=["poll_shorter", "push_snapshots"])
    assert strict.best == "push_snapshots"
    table = break_even(strict, "needs.latency_p95_s")
    highs = strict.table.xs("latency_p95_s", level="measure")["high"]
    up = table[table["value"] > 2.0]
    assert up["value"].iloc[0] == highs[up["above"].iloc[0]]
    for row in up.itertuples():
        looser = decided(
            {"latency_p95_s": row.value}, candidates=["poll_shorter", "push_snapshots"]
        )
        tighter = strict.with_needs(
            strict.asked.needs.replace({"latency_p95_s": row.value * 0.999})
        )
        assert (looser.best or "none", tighter.best or "none") == (row.above, row.below)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"over": "updates.rate"}, r"over: must be the path of a setting that is a number > 0"),
        ({"over": "transport"}, r"over: must be the path"),
        ({"over": "network.bad_gateway"}, r"this one is a switch, which tornado alone varies"),
        ({"over": "network.rtt_spread"}, r"over: must be the path"),
        ({"over": 3}, r"over: must be the path of one assumption"),
        ({"over": ""}, r"over: must be the path of one assumption, such as \"clients\""),
        ({"over": "client"}, r"; did you mean clients\?, got 'client'"),
        ({"over": "latency_p95_s"}, r"; did you mean needs.latency_p95_s\?"),
        ({"over": "rate"}, r"; did you mean updates.rate_per_s\?"),
        ({"over": "needs.back_s"}, r"this one is not set: give it a value to begin with"),
        ({"over": "drag.length_s"}, r"this one is not set: give it a value to begin with"),
        ({"over": "server.snapshot_s"}, r"this one is 0: give it another value to begin with"),
        ({"decision": "clients"}, r"decision: must be a Decision, as decide returns it, got 'clie"),
        ({"measure": "speed"}, r"measure: must be among latency_p50_s"),
        ({"measure": "p95"}, r"measure: must be among .*; did you mean latency_p95_s\?"),
        ({"measure": ["back_s"]}, r"measure: must be among latency_p50_s"),
        ({"measure": "money_per_month"}, r"measure: must be among what is judged: .* prices"),
        ({"measure": "harmed_frac"}, r"measure: must be among what is judged: .* of harmed_frac"),
        ({"one": "pushh"}, r"one: must be among today, poll_etag, push.*; did you mean push\?"),
        ({"one": ["push"]}, r"one: must be among today, poll_etag, push"),
        ({"one": "push", "other": "push"}, r"other: must be another candidate"),
        (
            {"least": 0.2},
            r"least, most: must be numbers > 0 on either side of 0.1, as updates.rate",
        ),
        ({"least": "0.2"}, r"least, most: must be numbers > 0 on either side of 0.1"),
        ({"over": "clients", "least": 2.5}, r"least, most: must be whole numbers, as clients is"),
        ({"closeness": 0.0}, r"closeness: must be a number in \(0, 1\]"),
        ({"closeness": "1 %"}, r"closeness: must be a number in \(0, 1\]"),
    ],
)
def test_what_cannot_break_even_is_refused(decision, options, words):
    with pytest.raises(sl.ScenarioError, match=words):
        break_even(**{"decision": decision, "over": RATE, **options})


def test_what_is_found_in_another_place_is_said_to_be_there():
    with pytest.raises(AttributeError, match=r"did you mean simlib.verdict.break_even\?"):
        sl.break_even  # noqa: B018
    for ask in (tornado, sobol):
        with pytest.raises(sl.ScenarioError, match="decision: must be a Decision"):
            ask("clients")
    with pytest.raises(sl.ScenarioError, match=r"table: must be a table from verdict.tornado"):
        sentence_of("clients")


def test_there_is_no_closed_form_of_clients_behind_bad_proxies():
    needs = sl.Needs(latency_p95_s=60.0, trouble={"bad_proxy_frac": 0.3})
    push = BOARD.replace(transport="websocket")
    assert math.isnan(expected(push, needs)["bytes_per_h"])
    assert expected(BOARD, needs)["bytes_per_h"] > 0.0
    found = decided(needs, candidates=["push_fallback"])
    over = "needs.trouble.bad_proxy_frac"
    table = break_even(found, over, measure="latency_p50_s", most=0.9, closeness=0.5)
    assert set(table["by"]) <= {"simulation"}
    assert table.attrs["curves"]["push_fallback"].max() > 1.0, "if most poll, half of all is late"


def test_the_bill_of_today_has_the_servers_that_are_paid_for_in_closed_forms_too():
    prices = {"per_server_hour": 1.0, "open_hours": 100.0}
    needs = sl.Needs(nodes=4, memory_bytes="1 GB", prices=prices)
    four = BOARD.replace({"server.nodes": 4})
    paid = [expected(four, needs, is_today=is_today) for is_today in (True, False)]
    assert [one["money_per_month"] for one in paid] == [4 * 730.5, 730.5]


def test_a_limit_that_all_keep_with_nothing_changes_no_verdict():
    """There is no break-even at today's limit, only because it is the first that is looked at."""
    found = decided({"missed_frac": 0.5}, candidates=["poll_etag"])
    assert (found.table.xs("missed_frac", level="measure")["high"] == 0.0).all()
    assert break_even(found, "needs.missed_frac").empty


def test_a_share_whose_interval_reaches_beyond_all_of_it_is_no_limit(decision):
    values = {name: dict(measures) for name, measures in decision.values.items()}
    values["push"]["utilisation"] = np.array([0.8, 0.9, 1.0])
    told = decision._warned, decision._said, decision._ran
    odd = type(decision)(decision.asked, decision.cases, decision.left_out, values, *told)
    assert odd.table.loc[("push", "utilisation"), "high"] > 1.0
    assert break_even(odd, "needs.utilisation")["value"].max() <= 1.0


def test_trouble_has_break_evens_on_boards_where_it_is_left_out(monkeypatch):
    """Both candidates are run in all that the measure needs, whatever else they fail."""
    monkeypatch.setattr(judging, "BUDGET_EVENTS", 1.0)
    found = decided({"latency_p95_s": 5.0}, candidates=["push", "poll_etag"])
    assert found.table.loc[("poll_etag", "back_s"), "status"] == "not run"
    ends = {"least": 0.1, "most": 0.1, "closeness": 1.0}
    table = break_even(found, RATE, measure="back_s", one="push", other="poll_etag", **ends)
    assert len(table.attrs["curves"]) == 1


def test_a_measure_that_nothing_has_is_refused(decision):
    quiet = BOARD.replace({"hidden": {"every_s": 60, "length_s": 5}, RATE: 1e-9})
    nothing = decided({"utilisation": 0.5}, quiet, candidates=["push"])
    with pytest.raises(sl.ScenarioError, match="measure: must be one that both candidates have"):
        break_even(nothing, RATE, measure="latency_p50_s", one="push", other="today")


# -- tornado ---------------------------------------------------------------------------------------


def test_a_tornado_asks_again_at_both_ends(decision):
    ranges = {RATE: (0.05, 3.0), "server.poll_s": (1e-3, 4e-3)}
    table = tornado(decision, ranges)
    assert table["over"].tolist() == [RATE, "server.poll_s"]
    assert table["flips"].tolist() == [True, False]
    assert table.attrs["first"] == RATE
    row = table.iloc[0]
    assert row["best_at_low"] == decision.best == "push"
    assert row["best_at_high"] != "push"
    busy = decided(
        decision.asked.needs,
        BOARD.replace({RATE: 3.0}),
        candidates=["poll_etag", "push", "push_snapshots"],
    )
    rival = table.attrs["rival"]
    lead = busy.values[rival]["bytes_per_h"] - busy.values["push"]["bytes_per_h"]
    assert row["at_high"] == pytest.approx(lead.mean())
    assert min(row["at_low"], table.attrs["today"]) > 0.0 > row["at_high"]
    assert row["swing"] == pytest.approx(row["at_low"] - row["at_high"])
    assert sentence_of(table).startswith(f"Measure {RATE} first: it changes the verdict, at 3 to")
    assert table.attrs["labels"][row["best_at_high"]] in sentence_of(table)


def test_what_is_asked_again_runs_as_long_as_it_did(monkeypatch):
    lasted = []

    def judge(trial, judge=judging.judge):
        lasted.append(trial.condition.scenario.horizon_s)
        return judge(trial)

    monkeypatch.setattr(judging, "judge", judge)
    # Of all, the one that polls half as often takes longest, and is neither the best nor its rival.
    found = decided({"latency_p95_s": 40.0}, candidates=["poll_longer", "poll_etag", "push"])
    first = set(lasted)
    assert "poll_longer" not in (found.best, found.rival)
    lasted.clear()
    tornado(found, {"server.poll_s": (1e-3, 4e-3)})
    assert set(lasted) == first == {240.0 + 90.0 - 30.0}


def test_by_default_every_assumption_that_there_is_goes_from_half_to_double():
    needs = {"missed_frac": 0.9, "trouble": {"bad_proxy_frac": 0.6}}
    few = BOARD.replace({"clients": 4, "horizon_s": 100.0})
    table = tornado(decided(needs, few, candidates=["push"])).set_index("over")
    assert table.loc["needs.trouble.bad_proxy_frac", ["low", "high"]].tolist() == [0.3, 1.0]
    assert table.loc["clients", ["low", "today", "high"]].tolist() == [2.0, 4.0, 8.0]
    assert set(table.index) - set(ASSUMPTIONS) == {"needs.trouble.proxies_answer"}
    assert len(table) == 9 + 1
    assert table.attrs["skipped"] == ()


def test_what_would_last_longer_than_a_run_is_not_doubled():
    for nodes, trouble in ((1, {"restart_s": 100.0}), (3, {"restart_s": 30.0, "surge": 0})):
        needs = sl.Needs(back_s=9.0, trouble=trouble)
        asked = Asked(BOARD.replace({"server.nodes": nodes}), needs, 3, 1, 0.95, {})
        today = trouble["restart_s"]
        assert ranges_of(asked, None)["needs.trouble.restart_s"] == (today / 2.0, today)


def test_whole_numbers_stay_whole_and_what_is_0_is_not_varied_by_a_factor():
    odd = BOARD.replace({"clients": 5, "network.rtt_s": 0.0, "horizon_s": 120.0})
    found = decided({"latency_p95_s": 60.0}, odd, candidates=["push"])
    table = tornado(found)
    rows = table.set_index("over")
    assert rows.loc["clients", ["low", "high"]].tolist() == [2.0, 10.0]
    assert table.attrs["skipped"] == ("network.rtt_s", "needs.trouble.bad_proxy_frac")
    said = "Not varied, since 0 or not set: network.rtt_s, needs.trouble.bad_proxy_frac."
    assert sentence_of(table).endswith(said)
    given = tornado(found, {"network.rtt_s": (0.01, 0.1)})
    assert given["today"].tolist() == [0.0]
    assert given.attrs["skipped"] == ()
    alone = decided({"latency_p95_s": 60.0}, odd.replace(clients=1), candidates=["push"])
    assert tornado(alone).set_index("over").loc["clients", ["low", "high"]].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"assumptions: must be a mapping of paths to low and high"),
        (
            {"network.tls": (0.0, 2.0)},
            r"assumptions\['network.tls'\]: must be \(False, True\): it is",
        ),
        ({"network.bad_gateway": True}, r"network.bad_gateway'\]: must be \(False, True\): it is"),
        (
            {"network.stream_buffer_bytes": (0, 9)},
            r"stream_buffer_bytes'\]: must be \(None, 4096\): it is a switch, unless it has",
        ),
        ({"network.bad_gateway": (np.zeros(2), 1)}, r"must be \(False, True\): it is"),
        ({"clients": (np.zeros(2), 1)}, r"assumptions\['clients'\]: must be two numbers"),
        ({"network.bad_gatewa": (False, True)}, r"did you mean network.bad_gateway\?"),
        ({"clients": 3}, r"assumptions\['clients'\]: must be a pair of low and high"),
        ({"clients": (4, 2)}, r"assumptions\['clients'\]: must be two numbers with 0 < low < high"),
        ({"client": (1, 2)}, r"assumptions\['client'\]: must be the path.* did you mean clients"),
        ({"clients": (4.5, 9)}, r"assumptions\['clients'\]: must be whole numbers, as clients is"),
        ({"clients": ("4", "9")}, r"assumptions\['clients'\]: must be two numbers"),
        ({3: (1, 2)}, r"assumptions\[3\]: must be the path of one assumption"),
        ({"drag.length_s": (1, 2)}, r"assumptions\['drag.length_s'\]: .* not set"),
        ({"server.poll_s": (1e-3, -1.0)}, r"must be two numbers with 0 < low"),
        ({"server.poll_s": (1e-3, 1e12)}, r"server.poll_s: must be <="),
    ],
)
def test_bad_ranges_are_refused_before_anything_runs(decision, given, words, monkeypatch):
    monkeypatch.setattr("simlib.verdict.judging.collect", None)
    with pytest.raises(sl.ScenarioError, match=words):
        tornado(decision, given)


# -- switches --------------------------------------------------------------------------------------

STREAMS = {"stream": {"transport": "sse"}, "fast": {"polling.interval_s": 5.0}}


def test_switches_are_varied_between_their_two_values(monkeypatch):
    """A 502 ends EventSource, and a proxy that waits for 4 kB shows nothing of a quiet board."""
    needs = {"latency_p95_s": 8.0, "back_s": 60.0, "trouble": {"bad_gateway": False}}
    few = BOARD.replace({"clients": 4, "horizon_s": 150.0})
    found = decided(needs, few, candidates=STREAMS, replications=3)
    assert found.best == "stream"
    monkeypatch.setattr("simlib.verdict.assumptions.ASSUMPTIONS", ())
    table = tornado(found)
    rows = table.set_index("over")
    switches = table.attrs["switches"]
    assert switches == {
        "network.bad_gateway": ("off", "on"),
        "network.stream_buffer_bytes": ("off", "4,096"),
        "server.max_connections": ("1", "20,000"),
    }
    assert rows.loc["network.stream_buffer_bytes", ["low", "today", "high"]].tolist() == [
        0,
        0,
        4096,
    ]
    assert rows.loc["server.max_connections", ["low", "today", "high"]].tolist() == [1, 20e3, 20e3]
    for over, end, other in (
        ("network.bad_gateway", "high", "low"),
        ("network.stream_buffer_bytes", "high", "low"),
        ("server.max_connections", "low", "high"),
    ):
        assert rows.loc[over, "flips"]
        assert rows.loc[over, f"best_at_{end}"] == "fast"
        assert rows.loc[over, f"best_at_{other}"] == "stream", "as it is"
        assert rows.loc[over, f"at_{other}"] == table.attrs["today"]
    first, said = table.attrs["first"], sentence_of(table)
    assert first == "network.stream_buffer_bytes"
    assert said.startswith(f"Find out {first} first: it changes the verdict, at 4,096 to fast;")
    assert "between off and 4,096 the lead of stream goes from" in said


def test_only_switches_that_matter_to_a_candidate_at_hand_are_varied():
    def varied(needs, *transports, **changes):
        asked = Asked(BOARD.replace(changes), sl.Needs(**needs), 3, 1, 0.95, {})
        weighed = [asked.scenario.replace(transport=one) for one in transports]
        return set(switches_of(asked, weighed, None))

    calm, rough = {"latency_p95_s": 9.0}, {"back_s": 9.0}
    held, buffers, error = (
        "server.max_connections",
        "network.stream_buffer_bytes",
        "network.bad_gateway",
    )
    assert varied(rough, "polling") == set()
    assert varied(rough, "websocket", "notify") == set(), "no sync worker opens a WebSocket"
    assert varied(rough, "long_polling", "polling") == {held}
    assert varied(calm, "sse") == {held, buffers}, "nothing asks what a restart does"
    assert varied(rough, "polling", "sse_notify") == {held, buffers, error}
    assert varied(rough, "sse", **{"sse.retries_http_errors": True}) == {held, buffers}
    in_turn = {**rough, "trouble": {"surge": 1}}
    assert varied(in_turn, "sse") == {held, buffers}, "a new one comes before the only one goes"
    assert varied({**rough, "trouble": {"surge": 0}}, "sse") == {held, buffers, error}
    assert varied(in_turn, "sse", **{"server.nodes": 2}) == {held, buffers}, "one is always up"
    behind = {**rough, "trouble": {"bad_proxy_frac": 0.1}}
    assert varied(behind, "notify", "polling") == {"needs.trouble.proxies_answer"}
    assert varied(behind, "sse") == {held, buffers, error}


# -- Sobol -----------------------------------------------------------------------------------------


def test_sobol_indices_are_those_of_the_closed_form(decision):
    """The lead in bytes is a sum of a part of the rate and one of the board's size."""
    ranges = {
        RATE: (0.05, 0.2),
        "updates.snapshot_bytes": (2000, 8000),
        "server.poll_s": (1e-3, 2e-3),
    }
    table = sobol(decision, ranges, samples=64).set_index("over")
    assert table.attrs["by"] == "closed form"
    assert table.attrs["points"] == 64 * 5
    generator = np.random.default_rng(3)
    draws = {
        name: low * (high / low) ** generator.random(150) for name, (low, high) in ranges.items()
    }

    def lead(name, value):
        asked = changed(decision.asked, name, value)
        both = [
            decision.cases[one].candidate.applied_to(asked.scenario, asked.needs)
            for one in ("push", "today")
        ]
        push, polls = (expected(one, asked.needs)["bytes_per_h"] for one in both)
        return polls - push

    alone = {name: np.var([lead(name, v) for v in values]) for name, values in draws.items()}
    for name, variance in alone.items():
        share = variance / sum(alone.values())
        row = table.loc[name]
        assert row["first_low"] - 0.1 <= share <= row["first_high"] + 0.1
        assert row["total_low"] <= row["total"] <= row["total_high"]
    assert table.index[0] == max(alone, key=alone.get) == table.attrs["first"]


def test_simulated_indices_agree_with_those_of_closed_forms(decision):
    ranges = {"updates.snapshot_bytes": (2000, 8000), "server.poll_s": (1e-3, 2e-3)}
    forms = sobol(decision, ranges, samples=8)
    runs = sobol(decision, ranges, samples=8, is_simulated=True)
    assert runs.attrs["by"] == "simulation"
    assert runs["over"].tolist() == forms["over"].tolist()
    assert runs["total"].tolist() == pytest.approx(forms["total"].tolist(), abs=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 12}, r"samples: must be a power of 2, >= 4"),
        ({"samples": 2}, r"samples: must be a power of 2"),
        ({"confidence": 1.5}, r"confidence: must be a number in \(0, 1\)"),
        ({"confidence": "95"}, r"confidence: must be a number in \(0, 1\)"),
        ({"measure": "speed"}, r"measure: must be among"),
    ],
)
def test_bad_arguments_of_sobol_are_refused(decision, options, words):
    with pytest.raises(sl.ScenarioError, match=words):
        sobol(decision, {"clients": (10, 20)}, **options)


def test_assumptions_that_change_nothing_have_no_indices(decision):
    with pytest.raises(sl.ScenarioError, match="assumptions: must be among them one on which"):
        sobol(decision, {"server.send_s": (1e-5, 2e-5)}, samples=4)


# -- closed forms of measures ----------------------------------------------------------------------


def test_measures_by_closed_form_are_those_of_runs(decision):
    prices = sl.Prices(per_gb_down=90.0, per_gb_up=1.0, per_memory_gb_hour=0.01, open_hours=176.0)
    needs = sl.Needs(latency_p95_s=60.0, prices=prices)
    long = BOARD.replace({"horizon_s": 1200.0})
    found = decided(needs, long, candidates=["push"])
    for name, case in found.cases.items():
        forms = expected(case.scenario, needs)
        for measure, value in forms.items():
            mean = found.values[name][measure].mean()
            if not math.isnan(value):
                assert mean == pytest.approx(value, rel=0.06), (name, measure)
        assert math.isfinite(forms["money_per_month"])


def test_assumptions_are_changed_where_they_are(decision):
    asked = decision.asked
    assert changed(asked, "clients", 20.6).scenario.clients == 21
    assert changed(asked, "needs.latency_p95_s", 3.0).needs.limits["latency_p95_s"] == 3.0
    assert value_of(asked, "needs.trouble.restart_s") == 5.0
