"""Several processes that would compile the same."""

from __future__ import annotations

import threading

from simlib.engines.compiled import compiling
from simlib.engines.compiled.compiling import alone


def test_one_compiles_and_the_others_wait_for_it_and_say_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "DELAY_S", 0.0)
    happened, is_waiting = [], threading.Event()

    def compile_too():
        is_waiting.set()
        with alone(tmp_path):
            happened.append("the other")

    with alone(tmp_path):
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
    with alone(None), alone(None), alone(place), alone(place):
        pass
