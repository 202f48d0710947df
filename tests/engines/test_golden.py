"""Both engines give what was recorded in data/golden: see tests/golden.py."""

from __future__ import annotations

import numba
import pandas as pd
import pytest

from tests import golden

HOW_TO = "if that is meant: make golden"


@pytest.mark.parametrize("group", golden.GROUPS)
@pytest.mark.parametrize("engine", golden.ENGINES)
def test_every_column_is_as_recorded(group, engine):
    if engine == "compiled" and numba.config.DISABLE_JIT:
        pytest.skip("takes minutes without a compiler")
    moved = golden.moved(group, engine)
    assert not moved, "\n".join([*moved, HOW_TO])


def test_every_figure_of_the_notebooks_is_as_recorded():
    moved = golden.moved_figures()
    assert not moved, "\n".join([*moved, HOW_TO])


def test_a_column_and_a_case_that_move_are_named(monkeypatch):
    monkeypatch.setattr(golden, "read_cases", lambda group, read=golden.read_cases: read(group)[:2])
    recorded = golden.collected("rollouts", "compiled")
    first, second = golden.read_cases("rollouts")
    other = [first, {**second, "seed": second["seed"] + 1}]
    monkeypatch.setattr(golden, "read_cases", lambda group: other)
    lines = golden._moved("rollouts", recorded, golden.collected("rollouts", "compiled", recorded))
    assert "rollouts: case rollout-001" in lines
    assert "rollouts: case rollout-000" not in lines
    assert "rollouts: column clients.start_s" in lines
    assert "rollouts: column timeline.t_s" not in lines


def test_names_may_change_and_values_may_not(monkeypatch):
    old = pd.DataFrame({"t_s": [1.0, 2.0], "what": ["begun", "good"]})
    new = pd.DataFrame({"what_now": ["started", "good"], "t_s": [1.0, 2.0], "more": [1, 2]})
    recorded = golden._digests_of_table("diary", old)
    renamed = {"diary.what": "what_now", "diary.what=begun": "started"}
    monkeypatch.setattr(golden, "RENAMED", renamed)
    now = golden._digests_of_table("diary", new)
    assert {name: now[name] for name in recorded} == recorded
    moved = golden._digests_of_table("diary", new.assign(t_s=[1.0, 2.0 + 2**-50]))
    assert moved["t_s"] != recorded["t_s"]
