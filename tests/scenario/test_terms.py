"""Words of the field lead to settings that there are, and one word to one row."""

from __future__ import annotations

from collections import Counter

import pytest

import simlib as sl
from simlib.scenario.suggestions import plain
from simlib.scenario.terms import TERMS

BOARD = sl.Scenario(updates={"rate_per_s": 0.1})
EVERY = {one.path for one in sl.settings()}


def test_no_word_stands_in_two_rows():
    words = Counter(plain(word) for term in TERMS for word in term.words.split(","))
    assert max(words.values()) == 1
    assert all(words)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: plain(term.words)[:20])
def test_each_word_leads_to_settings_or_to_what_there_is_to_say(term):
    assert term.paths or term.says
    assert set(term.paths.split()) <= EVERY
    for word in term.words.split(","):
        found = sl.settings(word)
        assert [one.path for one in found][: len(term.paths.split())] == term.paths.split(), word
        assert found.note == term.says, word


@pytest.mark.parametrize("name", ["rooms", "hpa", "sticky", "updates.rooms", "server.threads"])
def test_a_word_in_place_of_a_setting_is_refused_with_where_to_look(name):
    with pytest.raises(sl.ScenarioError) as caught:
        BOARD.replace({name: 5})
    word = name.rpartition(".")[2]
    assert f'; sl.settings("{word}") says what comes nearest' in str(caught.value)
    assert sl.settings(word)


@pytest.mark.parametrize(
    ("word", "path", "said"),
    [
        ("middlebox", "network.stream_buffer_bytes", "block_upgrades"),
        ("reload", "sessions.length_s", "a session that ends and a new one"),
        ("bad_proxy_frac", "faults.*.share", "a field of sl.Needs"),
        ("nurses", "clients", "by their open tabs"),
    ],
)
def test_words_that_teams_have_looked_for(word, path, said):
    found = sl.settings(word)
    assert path in [one.path for one in found]
    assert said in found.note
