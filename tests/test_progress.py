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


def test_simulated_time_is_shown_in_a_unit_that_suits_it(at_once, capsys):
    sl.simulate(BOARD, engine="simpy")
    shown = last_line(capsys.readouterr().err)
    assert shown.startswith("simulate: 100%")
    assert "10.0 min of 10.0 min simulated [" in shown
    assert "s/s" not in shown


class Clock:
    """A clock for tqdm that a test sets."""

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        monkeypatch.setattr("tqdm.std.time", lambda: self.now_s)
        monkeypatch.setattr(bars.time, "time", lambda: self.now_s)


def test_a_short_run_shows_no_bar(monkeypatch, capsys):
    Clock(monkeypatch)  # by which they take no time: on a busy machine they may take two seconds
    sl.simulate(BOARD)
    sl.replicate(BOARD, 3)
    sl.sweep(BOARD, {"clients": [1, 2]}, replications=2)
    assert capsys.readouterr().err == ""


def test_a_long_run_says_at_once_what_is_expected_of_it_and_then_how_fast_it_is(
    monkeypatch, capsys
):
    clock = Clock(monkeypatch)
    with bars.run_bar(3600.0, "simulate", expected_s=40.0) as bar:
        assert "[00:00, about 40 s expected]" in last_line(capsys.readouterr().err)
        clock.now_s += 5.0
        bar.advance(360.0, 0.1, 155_000_000)
        shown = last_line(capsys.readouterr().err)
        assert "6.0 min of 60.0 min simulated" in shown or "0.1 h of 1.0 h simulated" in shown
        assert "[00:05, about 50 s as measured: " in shown
        assert "and 31 M events a second]" in shown
        clock.now_s += 40.0
        bar.advance(3240.0, 1.0, None)
    assert "[00:45: 1.3 min a second]" in last_line(capsys.readouterr().err)


@pytest.mark.parametrize("expected_s", [0.0, 3.9])
def test_what_may_be_over_soon_shows_nothing_before_two_seconds(monkeypatch, capsys, expected_s):
    clock = Clock(monkeypatch)
    with bars.run_bar(600.0, "simulate", expected_s=expected_s) as bar:
        clock.now_s += 1.9
        bar.advance(300.0, 0.5, None)
        assert capsys.readouterr().err == ""
        clock.now_s += 0.2
        bar.advance(100.0, 0.6, None)
        assert "about 3.5 s as measured" in last_line(capsys.readouterr().err)


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
