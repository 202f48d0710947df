"""The table of formats: one for plans and for scenarios."""

from __future__ import annotations

import pytest

from simlib.errors import ScenarioError
from simlib.scenario import formats
from simlib.scenario.documents import parsed

ROW = formats.Format(
    name="steps",
    kind="scenario",
    title="a list of steps",
    language="YAML",
    has="steps",
    detect=lambda documents: "steps" in documents[0],
    read=lambda documents, given: {"clients": len(documents[0].values["steps"])},
)


@pytest.fixture
def one_row(monkeypatch):
    monkeypatch.setattr(formats, "FORMATS", {})
    formats.register(ROW)


def test_a_scenarios_format_is_recognised_among_scenarios_alone(one_row):
    documents = parsed("steps: [1, 2]", "file.yaml", "YAML")
    assert formats.recognised(documents, "scenario").read(documents, None) == {"clients": 2}
    with pytest.raises(ScenarioError, match=r"file\.yaml: must have steps, got None"):
        formats.recognised(parsed("a: 1", "file.yaml", "YAML"), "scenario")


def test_a_format_that_is_only_read_is_not_written(one_row):
    for name in ("steps", "other", 5):
        with pytest.raises(ScenarioError, match="format: must be toml"):
            formats.writer(name, "scenario")


def test_a_name_is_taken_once(one_row):
    with pytest.raises(ValueError, match="two formats of the name steps"):
        formats.register(ROW)
