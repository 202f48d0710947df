"""What README.md and its pages say is so: examples run, links lead somewhere, figures are ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile

import pandas as pd
import plotly.io
import pytest
from hatchling.builders.wheel import WheelBuilder

from tests import readme
from tests.readme import README, ROOT, blocks

REFERENCE = ROOT / "data" / "reference.md"
PAGES = (README, REFERENCE, ROOT / "data" / "trust.md", ROOT / "data" / "README.md")

# Replaced before the examples run: each says the same of fewer clients, replications or seconds.
SMALLER = {
    README: {
        '"utilisation": 0.7}': '"utilisation": 0.7}, candidates=["push"], progress=False',
    },
    REFERENCE: {
        'board = sl.Scenario.example("matters")': (
            'board = sl.Scenario.example("matters").replace({"clients": 10, "horizon_s": 210.0})'
        ),
        '"clients": [1_000, 10_000]': '"clients": [10, 20]',
        "replications=20": "replications=2, progress=False",
        '"clients": 5_000}': '"clients": 10}',
        "few, samples=16": "few, samples=4",
        "below=0.1": "below=0.1, replications=2, progress=False",
        '"build/runs"': "str(folder)",
        "regressions(fleet, plan)": "regressions(fleet, plan), replications=2, progress=False",
    },
}


def smaller(path):
    """The blocks of a page with less to do; each replacement has to be of use."""
    code = blocks(path)
    for old, new in SMALLER[path].items():
        assert any(old in block for block in code), f"{path.name} no longer has {old}"
        code = [block.replace(old, new) for block in code]
    return code


def carry_out(block, names):
    exec(block, names)  # noqa: S102  (code of the repository's own pages)


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A figure is made, and shown to nobody.
    monkeypatch.setattr(plotly.io.renderers, "default", "json")
    return {"folder": tmp_path / "runs"}


@pytest.fixture(scope="module")
def runs():
    return readme.runs()


def test_the_table_and_the_figure_are_what_the_runs_give(runs):
    text = README.read_text(encoding="utf-8")
    assert readme.between_marks(text) == readme.table(*runs), "python -m tests.readme"
    drawn = readme.FIGURE.read_text(encoding="utf-8")
    assert drawn == readme.figure(*runs), "python -m tests.readme"
    assert not any(run.warnings for run in runs)


def test_the_examples_of_the_readme_run_without_a_warning(names):
    first, yours, decided = smaller(README)
    carry_out(first, names)
    carry_out(yours, names)
    assert not names["today"].warnings
    assert not names["tomorrow"].warnings
    carry_out(decided.replace("sl.decide(", "decision = sl.decide("), names)
    assert names["decision"].verdict


def test_the_examples_of_the_reference_run(names):
    for block in smaller(REFERENCE):
        if "sl.measure" not in block:
            carry_out(block, names)


def test_what_the_reference_measures_is_measured(names):
    first, *others = smaller(REFERENCE)
    carry_out(first, names)
    [block] = [block for block in others if "sl.measure" in block]
    carry_out(block, names)
    assert names["real"].ledger.delivered > 0


def test_a_wheel_runs_the_first_example_without_the_repository(tmp_path):
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    first = blocks(README)[0].replace(".show()", "")
    program = f"{first}\nprint(sl.__file__)\nsl.Plan.example('guide_as_written')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().startswith(str(tmp_path / "installed"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_of_the_repository(path):
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert targets or path.parent != ROOT
    missing = [one for one in targets if "://" not in one and not (path.parent / one).exists()]
    assert missing == []


def test_the_readme_is_of_a_screen_and_a_half():
    assert 3000 <= len(README.read_text(encoding="utf-8")) <= 4500


def test_how_near_the_readme_says_that_predictions_are():
    table = pd.read_csv(ROOT / "data" / "measured" / "fidelity.csv")
    latency = table[table["quantity"].str.startswith("latency")]
    off = latency["error"].abs().groupby(latency["transport"])
    relative = (latency["error"] / latency["measured_median"]).abs().groupby(latency["transport"])
    text = " ".join(README.read_text(encoding="utf-8").split())
    [near] = re.findall(r"polling is within ([\d.]+) % of the real server", text)
    [missed] = re.findall(r"the simulation misses up to ([\d.]+) ms", text)
    assert float(near) - 0.1 <= 100 * relative.max()["polling"] <= float(near)
    assert float(missed) - 0.1 <= 1e3 * off.max()["websocket"] <= float(missed)


@pytest.mark.parametrize("title", ["README", "reference"])
def test_the_guide_is_introduced_where_it_is_first_named(title):
    text = {"README": README, "reference": REFERENCE}[title].read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    first = " ".join(
        text[text.index("*the guide*" if title == "README" else "*The guide*") :].split()
    )
    assert "React Query's polling every 30 s" in first[:200]
    assert "rollback" in first[:250]
    before = text[: text.lower().index("*the guide*")]
    assert "the guide" not in before.lower()
