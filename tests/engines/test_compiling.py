"""Several processes that would compile the same."""

from __future__ import annotations

import threading

from simlib.engines.compiled import compiling
from simlib.engines.compiled.compiling import alone, alone_or_not


def test_one_compiles_and_the_others_wait_for_it_and_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "DELAY_S", 0.0)
    happened, is_waiting = [], threading.Event()

    def compile_too():
        is_waiting.set()
        with alone(tmp_path, "general"):
            happened.append("the other")

    with alone(tmp_path, "general"):
        other = threading.Thread(target=compile_too)
        other.start()
        assert is_waiting.wait(10.0)
        other.join(0.5)
        happened.append("the first")
    other.join(10.0)
    assert happened == ["the first", "the other"]
    assert "another process is compiling" in capsys.readouterr().err


def test_where_nothing_can_be_kept_nobody_waits(tmp_path):
    place = tmp_path / "a file"
    place.touch()
    with alone(None, "general"), alone(None, "general"):
        pass
    with alone(place, "general"), alone(place, "general"), alone_or_not(place, "it") as is_alone:
        assert is_alone


def test_different_copies_are_compiled_side_by_side(tmp_path):
    with alone(tmp_path, "general"), alone(tmp_path, "polls"):
        pass


def test_who_only_wants_to_do_it_if_nobody_else_does_is_not_held_up(tmp_path):
    with alone_or_not(tmp_path, "it") as first, alone_or_not(tmp_path, "it") as second:
        assert (first, second) == (True, False)
    with alone_or_not(tmp_path, "it") as third:
        assert third
