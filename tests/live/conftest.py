"""What holds for every measurement of these tests."""

from __future__ import annotations

import pytest

from simlib.live import lab


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
