"""Bars: nobody waits for long without being told, and no estimate is hours for seconds."""

from __future__ import annotations

import re

import pytest

import simlib as sl
from simlib import experiment
from simlib import progress as bars

BOARD = sl.Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=600.0)


@pytest.fixture
def at_once(monkeypatch):
    """Bars that show themselves without waiting for two seconds."""
    monkeypatch.setattr(bars, "DELAY_S", 0.0)


def last_line(text):
    return text.replace("\r", "\n").strip().splitlines()[-1]


def test_a_short_run_shows_no_bar(capsys):
    sl.simulate(BOARD)
    sl.replicate(BOARD, 3)
    sl.sweep(BOARD, {"clients": [1, 2]}, replications=2)
    assert capsys.readouterr().err == ""


def test_simulated_time_is_shown_in_a_unit_that_suits_it(at_once, capsys):
    sl.simulate(BOARD, engine="simpy")
    shown = last_line(capsys.readouterr().err)
    assert shown.startswith("simulate: 100%")
    assert "10.0 min of 10.0 min simulated [" in shown
    assert "s/s" not in shown


@pytest.mark.parametrize(
    ("seconds", "longest_s", "text"),
    [
        (488.12481219999427, 600.0, "8.1 min"),
        (0.0, 10.0, "0.0 s"),
        (90.0, 119.0, "90.0 s"),
        (90.0, 120.0, "1.5 min"),
        (3600.0, 7199.0, "60.0 min"),
        (3600.0, 7200.0, "1.0 h"),
        (0.00123, 0.0015, "0.0 s"),
    ],
)
def test_a_time_has_the_unit_of_the_longest_beside_it(seconds, longest_s, text):
    assert bars.in_units(seconds, longest_s) == text


def test_bars_that_are_off_show_nothing(at_once, capsys):
    sl.simulate(BOARD, progress=False)
    sl.replicate(BOARD, 3, progress=False)
    sl.sweep(BOARD, {"clients": [1, 2]}, replications=2, progress=False)
    assert capsys.readouterr().err == ""


def test_runs_are_counted(at_once, capsys):
    sl.replicate(BOARD, 3)
    assert re.search(r"replicate: 100%.* 3/3 ", last_line(capsys.readouterr().err))
    sl.sweep(BOARD, {"clients": [1, 2]}, replications=2)
    assert re.search(r"sweep: 100%.* 4/4 ", last_line(capsys.readouterr().err))


def test_the_bar_begins_after_the_first_run_which_may_have_waited_for_the_compiler(monkeypatch):
    began = []
    real = bars.bar

    def noted(total, name, unit, *, done=0, is_on=True):
        began.append((total, len(performed), done))
        return real(total, name, unit, done=done, is_on=is_on)

    performed = []
    simulate = experiment.simulate

    def counted(*arguments, **options):
        performed.append(1)
        return simulate(*arguments, **options)

    monkeypatch.setattr(bars, "bar", noted)
    monkeypatch.setattr(experiment, "simulate", counted)
    sl.replicate(BOARD, 3)
    assert began == [(3, 1, 1)]
    performed.clear()
    sl.sweep(BOARD, {"clients": [1, 2]}, replications=2, on="serial")
    assert began[1:] == [(4, 1, 1)]


def test_compiling_shows_its_own_bar_and_ends_it(monkeypatch, capsys):
    numba = pytest.importorskip("numba")
    from simlib.engines.compiled import compiling

    monkeypatch.setattr(compiling, "DELAY_S", 0.0)

    @numba.njit
    def inner(x):
        return x + 1

    @numba.njit
    def outer(x):
        return inner(x) * 2

    with compiling.shown_compiling():
        assert outer(1) == 4
        shown = capsys.readouterr().err
        assert "compiling, once, up to a minute" in shown
        assert "functions [" in shown
        assert outer(2) == 6  # is compiled already
        assert capsys.readouterr().err == ""
    outer(1.0)  # nobody listens any more
    assert capsys.readouterr().err == ""


def test_compiling_that_fails_or_is_interrupted_ends_its_bar(monkeypatch, capsys):
    numba = pytest.importorskip("numba")
    from simlib.engines.compiled import compiling

    monkeypatch.setattr(compiling, "DELAY_S", 0.0)

    @numba.njit
    def wrong(x):
        return x.no_such_thing

    def interrupted(x):
        outer_compiles = numba.njit(lambda y: y * 3)
        outer_compiles(x)
        raise KeyboardInterrupt

    for call, raised in ((wrong, numba.errors.TypingError), (interrupted, KeyboardInterrupt)):
        with pytest.raises(raised), compiling.shown_compiling():
            call(1)
    capsys.readouterr()
    wrong_again = numba.njit(lambda x: x + 2)
    wrong_again(1)
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_for_an_engine_that_is_not_compiled():
    from contextlib import nullcontext

    from simlib.engines import compiling

    assert isinstance(compiling("simpy", is_shown=True), nullcontext)
    assert isinstance(compiling("compiled", is_shown=False), nullcontext)
