"""What was public under another name still works, and says what it is called now."""

from __future__ import annotations

import importlib

import pytest

import simlib as sl

RENAMED = {
    "cohorts": "bucketing",
    "rehearsal": "trials",
    "bucketing.places": "bucketing.buckets",
    "bucketing.settled": "bucketing.fixed_assignment",
    "figures.along": "figures.sensitivity",
    "figures.comeback": "figures.reconnections",
    "figures.operating": "figures.operating_characteristic",
    "figures.watched": "figures.guardrail_panels",
    "figures.way_back": "figures.rollback_time",
    "metrics.SIX": "metrics.GUIDE_METRICS",
    "metrics.reach": "metrics.capacity",
    "metrics.six": "metrics.guide_metrics",
    "outages.back": "outages.reconnection_curve",
    "outages.comeback": "outages.reconnections",
    "outages.course": "outages.reconnected_over_time",
    "rollouts.way_back": "rollouts.rollback_time",
    "theory.way_back_s": "theory.rollback_time_s",
    "trials.HEALTHY": "trials.BASELINE",
    "trials.judge": "trials.summarise",
}


def found(path):
    home, _, name = f"sl.{path}".rpartition(".")
    return getattr(sl if home == "sl" else getattr(sl, home.removeprefix("sl.")), name)


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_the_new_one_and_says_so(old):
    new = RENAMED[old]
    name, was = new.rpartition(".")[2], old.rpartition(".")[2]
    with pytest.warns(FutureWarning, match=rf"{was} was renamed to .*\b{name}$"):
        given = found(old)
    assert given is found(new)


def test_no_old_name_is_forgotten_here():
    listed = set()
    for name in ("bucketing", "figures", "metrics", "outages", "rollouts", "theory", "trials"):
        module = getattr(sl, name)
        lookup = importlib.import_module(module.__name__).__getattr__
        names = lookup.__closure__[lookup.__code__.co_freevars.index("names")].cell_contents
        listed |= {f"{name}.{old}" for old in names}
    assert listed == {old for old in RENAMED if "." in old}


@pytest.mark.parametrize(("old", "new"), [(True, "content"), (False, "off")])
def test_a_switch_that_has_become_words_still_works(old, new):
    text = sl.Scenario(updates={"rate_per_s": 0.1}, polling={"etag": new}).dump()
    switched = text.replace(f'etag = "{new}"', f"etag = {str(old).lower()}")
    assert switched != text
    with pytest.warns(FutureWarning, match=f'etag = {str(old).lower()} was .*etag = "{new}"'):
        scenario = sl.Scenario.parse(switched)
    assert scenario.polling.etag == new
    assert scenario.dump() == text


def test_old_arguments_still_work():
    buckets = [12.0, 50.0]
    with pytest.warns(FutureWarning, match="the argument places was renamed to buckets"):
        sl.bucketing.share(places=buckets, percents=[50])
    with pytest.warns(FutureWarning, match="the argument places was renamed to buckets"):
        sl.bucketing.moves(places=buckets, percents=[0, 50])
    with pytest.warns(FutureWarning, match="the argument places was renamed to buckets"):
        sl.bucketing.fixed_assignment(places=buckets, percent=50)
    board = sl.Scenario(clients=1, horizon_s=60.0, updates={"rate_per_s": 0.1})
    with pytest.warns(FutureWarning, match="the argument conductor was renamed to controller"):
        sl.simulate(board, conductor=None, progress=False)
    with (
        pytest.raises(sl.ScenarioError, match="time_scale"),
        pytest.warns(FutureWarning, match="the argument conductor was renamed to controller"),
    ):
        sl.measure(board, conductor=None, time_scale=0.0, progress=False)
