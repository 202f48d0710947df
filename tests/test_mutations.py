"""A few of the mutated inputs of `tests.mutations`; the script takes them by the thousand."""

from __future__ import annotations

import pytest

from tests import mutations


@pytest.mark.parametrize("kind", mutations.KINDS)
def test_mutated_settings_are_valid_or_refused_by_name(kind):
    found = mutations.of_settings(kind, 60)
    assert {one.outcome for one in found} <= {"valid", "ScenarioError"}, found
    assert max(one.took_bytes for one in found) < 200e6


def test_the_mutations_reach_what_is_valid_and_what_is_not():
    outcomes = {one.outcome for one in mutations.of_settings("scenario", 60)}
    assert outcomes == {"valid", "ScenarioError"}
