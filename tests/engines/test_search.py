"""The search for scenarios on which the engines differ: it finds what differs, and takes the ways.

By hand it runs for hours, see `search`; here a few of its scenarios, the same in every run.
"""

from __future__ import annotations

import json
import tomllib

import numba
import pytest

import simlib as sl
from tests.engines import search

EXAMPLES = 6 if numba.config.DISABLE_JIT else 20
SEED = 16
WAYS = {
    "beats": ["beats"],
    "storms": ["folded", "begun_anew"],
    "polls": ["in_rounds", "in_turn"],
    "broadcasts": ["at_once", "in_blocks"],
    "rollouts": ["at_once", "in_turn"],
    "none": [],
}


@pytest.mark.parametrize("aim", search.AIMS)
def test_a_search_finds_no_difference_where_it_takes_the_ways_that_it_is_aimed_at(aim):
    found = search.search(aim, EXAMPLES, SEED)
    assert found["differing"] == []
    assert found["compared"] >= EXAMPLES
    for way in WAYS[aim]:
        assert found["taken"][way]["runs"] > 0


def test_what_differs_is_reported_with_what_makes_it_again(monkeypatch):
    honest = search.run

    def other_seed(case, engine):
        return honest(case._replace(seed=case.seed + (engine == "compiled")), engine)

    monkeypatch.setattr(search, "run", other_seed)
    found = search.search("beats", 3, SEED, keeps=True)
    assert len(found["differing"]) > 0
    first = found["differing"][0]
    assert first["keep"] == search.KEPT
    assert "DataFrame" in first["difference"]
    assert sl.Scenario(**tomllib.loads(first["scenario"])).transport == "websocket"


def test_an_engine_that_fails_is_found(monkeypatch):
    def fails(*_arguments):
        raise ZeroDivisionError("somewhere")

    monkeypatch.setattr(search, "run", fails)
    found = search.search("storms", 2, SEED)
    assert {each["difference"] for each in found["differing"]} == {"ZeroDivisionError: somewhere"}


def test_half_of_a_search_for_all_is_aimed():
    chunks = search.chunks_of("all", 20_000, SEED)
    aimed = sum(n for aim, n, _ in chunks if aim != "none")
    assert (aimed, sum(n for _, n, _ in chunks)) == (10_000, 20_000)
    assert {aim for aim, _, _ in chunks[: len(search.AIMS)]} == set(search.AIMS)
    assert len({seed for _, _, seed in chunks}) == len(chunks)


def test_parts_of_a_search_are_summed_up():
    one = {"compared": 2, "differing": [{"seed": 1}], "taken": {"beats": {"runs": 1, "times": 7}}}
    other = {"compared": 3, "differing": [], "taken": {"folded": {"runs": 2, "times": 4}}}
    crashed = {"compared": 0, "differing": [{"seed": 2}], "taken": {}}
    assert search.total([one, other, one, crashed]) == {
        "compared": 7,
        "differing": [{"seed": 1}, {"seed": 1}, {"seed": 2}],
        "taken": {"beats": {"runs": 2, "times": 14}, "folded": {"runs": 2, "times": 4}},
    }


def test_a_search_is_carried_on_where_others_have_stopped(tmp_path, monkeypatch):
    part = {"compared": 4, "differing": [], "taken": {"beats": {"runs": 1, "times": 7}}}
    monkeypatch.setattr(search, "in_a_process", lambda *_chunk: part)
    files = [tmp_path / name for name in ("one.json", "other.json")]
    for file, add in zip(files, ([], files[:1]), strict=True):
        words = ["search", "--aim", "beats", "--scenarios", "4", "--out", str(file)]
        words += ["--add", *map(str, add)] if add else []
        monkeypatch.setattr("sys.argv", words)
        search.main(search.arguments())
    table = json.loads(files[1].read_text(encoding="utf-8"))
    assert [each["asked"]["scenarios"] for each in table["searches"]] == [4, 4]
    assert (table["compared"], table["differ"]) == (8, 0)
    assert table["aims"]["beats"]["taken"] == {"beats": {"runs": 2, "times": 14}}
