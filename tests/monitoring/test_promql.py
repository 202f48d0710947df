"""PromQL as Prometheus has it: its answers, recorded and new ones, to the last digit."""

from __future__ import annotations

import json
import math
import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest

from simlib.errors import ScenarioError
from simlib.monitoring.promql import bucket_quantile, evaluate, only
from simlib.monitoring.series import Store

MEASURED = Path(__file__).parents[2] / "data" / "measured"
RECORDED = json.loads((MEASURED / "promql.json").read_text(encoding="utf-8"))
PROMTOOL = shutil.which("promtool")
_PAIR = re.compile(r'(\w+)="([^"]*)"')


def store_of(series):
    """What a monitor has that has scraped some series: they begin with their first samples."""
    store = Store()
    samples = []
    for text, of_it in series.items():
        name, _, labels = text.partition("{")
        pairs = _PAIR.findall(labels)
        samples += [(1000 * t_s, name, sorted(pairs), value) for t_s, value in of_it]
    for t_ms, name, pairs, value in sorted(samples, key=lambda sample: sample[:3]):
        store.add(name, dict(pairs), t_ms, value)
    return store


def said(answer):
    """An answer as Prometheus prints it."""
    of = answer if isinstance(answer, dict) else {(): answer}
    return sorted((tuple(sorted(labels)), value) for labels, value in of.items())


def expected(pairs):
    found = []
    for text, value in pairs:
        name, _, labels = text.partition("{")
        named = [("__name__", name)] if name else []
        found.append((tuple(sorted([*named, *_PAIR.findall(labels)])), float(value)))
    return sorted(found)


def is_same(ours, theirs):
    if [labels for labels, _ in ours] != [labels for labels, _ in theirs]:
        return False
    return all(
        a == b or (math.isnan(a) and math.isnan(b))
        for (_, a), (_, b) in zip(ours, theirs, strict=True)
    )


def differing(series, asked):
    store = store_of(series)
    found = []
    for text, t_s, pairs in asked:
        ours, theirs = said(evaluate(text, store, t_s)), expected(pairs)
        if not is_same(ours, theirs):
            found.append((text, t_s, ours, theirs))
    return found


def test_every_recorded_answer_is_ours_to_the_last_digit():
    asked = RECORDED["asked"]
    assert len(asked) >= 400
    assert len(RECORDED["series"]) >= 60
    assert sum(bool(pairs) for _, _, pairs in asked) >= 300
    assert differing(RECORDED["series"], asked) == []


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool on this machine (Debian: prometheus)")
@pytest.mark.parametrize("seed", range(2, 12))
def test_prometheus_itself_answers_as_we_do(seed):
    recorder = runpy.run_path(str(MEASURED / "record_promql.py"))
    draws = np.random.default_rng(seed)
    series = {name: samples for name, samples in recorder["series"](draws).items() if samples}
    asked = recorder["expressions"](draws, list(series))
    answers = recorder["answers"](PROMTOOL, series, asked)
    cases = [(*one, answer) for one, answer in zip(asked, answers, strict=True)]
    assert differing(series, cases) == []


def test_what_a_counter_had_counted_before_its_first_scrape_is_lost_for_ever():
    store = Store()
    for t_s in range(0, 300, 15):
        store.add("errors_total", {}, 1000 * t_s, 40.0)
    assert only(evaluate("increase(errors_total[1m])", store, 60)) == 0.0
    assert only(evaluate("sum(increase(errors_total[5m]))", store, 285)) == 0.0


def test_no_series_is_empty_and_no_traffic_is_no_number():
    store = Store()
    for t_s in range(0, 120, 15):
        store.add("polls_total", {}, 1000 * t_s, 7.0)
    assert (
        only(evaluate("sum(rate(errors_total[1m])) / sum(rate(polls_total[1m]))", store, 90))
        is None
    )
    assert math.isnan(
        only(evaluate("sum(rate(polls_total[1m])) / sum(rate(polls_total[1m]))", store, 90))
    )


def test_a_quantile_is_at_most_the_last_finite_edge():
    buckets = [(5.0, 0.0), (10.0, 0.0), (math.inf, 50.0)]
    assert bucket_quantile(0.5, buckets) == bucket_quantile(0.99, buckets) == 10.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate(x[1m]", "must be PromQL"),
        ("topk(3, x)", "must do without topk"),
        ("rate(x[5m:1m])", "must do without a subquery"),
        ("predict_linear(x[1m], 5)", "must do without predict_linear"),
        ("x @ 30", "must do without @"),
        ('"text"', "must do without a StringLiteral"),
        ("a / on (b) group_left c", "must do without group_left"),
    ],
)
def test_what_is_not_evaluated_here_is_refused_by_name(text, words):
    store = Store()
    store.add("a", {"b": "1"}, 0, 1.0)
    store.add("c", {"b": "1"}, 0, 1.0)
    with pytest.raises(ScenarioError, match=words):
        evaluate(text, store, 10)
