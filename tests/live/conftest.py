"""What holds for every measurement of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from simlib.live import lab
from tests.live.together import begin_test

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Measure twice more what fails, as the machine may have been busy; pytest counts it."""
    for item in items:
        if item.path.is_relative_to(FOLDER):
            item.add_marker(pytest.mark.flaky(reruns=2))


def pytest_runtest_setup(item):
    begin_test(again=getattr(item, "execution_count", 1) > 1)


@pytest.fixture(autouse=True)
def no_client_of_a_scenario_meets_a_limit(monkeypatch):
    refused = []
    run_of = lab._run_of

    def noting(*args):
        run = run_of(*args)
        refused.append(run.provenance["server_refused"])
        return run

    monkeypatch.setattr(lab, "_run_of", noting)
    yield
    assert not any(refused), refused
