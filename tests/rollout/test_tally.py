"""What a rollout makes of its checks: hand-worked sequences of Flagger's and Argo's rules."""

from __future__ import annotations

import math

import pytest

from simlib.rollout.tally import (
    Check,
    Limits,
    Tally,
    Verdict,
    argo,
    flagger,
    new_tally,
    next_stage,
)

LETTERS = {"p": Check.PASS, "f": Check.FAIL, "i": Check.INCONCLUSIVE, "n": Check.NO_DATA}
LETTERS["-"] = Check.NOT_DUE
VERDICTS = {"+": Verdict.GO_ON, "=": Verdict.HOLD, "!": Verdict.GO_BACK, "?": Verdict.STOP}


def verdicts(rule, limits, looks):
    """The verdicts on looks, each a letter for every guardrail."""
    tally, found = new_tally(len(looks.split()[0])), ""
    limits = [limits] * len(tally.failures) if rule is argo else limits
    signs = {verdict: sign for sign, verdict in VERDICTS.items()}
    for look in looks.split():
        tally, verdict = rule(tally, limits, [LETTERS[letter] for letter in look])
        found += signs[verdict]
        if verdict in (Verdict.GO_BACK, Verdict.STOP):
            break
    return found


@pytest.mark.parametrize(
    ("failures", "looks", "expected"),
    [
        (1, "p p p", "+++"),
        (1, "f p", "=!"),  # the look after, though that one is good
        (1, "f", "="),  # and not before
        (2, "f f p", "==!"),
        (2, "f p f p", "=+=!"),  # a good look takes no failed one back
        (2, "f p p p p", "=++++"),
        (3, "f p f p p f p", "=+=++=!"),
        (2, "n n n", "==="),  # no data holds, and counts nothing
        (1, "n f n p", "==!"),
        (1, "i p", "=+"),
        (2, "pf fp pp", "==!"),  # any guardrail fails the look
        (2, "ff pp pp", "=++"),  # two at once are one failed look
        (1, "fn pp", "=!"),
    ],
)
def test_flaggers_failed_looks_add_up_and_roll_back_at_the_next(failures, looks, expected):
    assert verdicts(flagger, Limits(failures, 0, 0), looks) == expected


@pytest.mark.parametrize(
    ("limits", "looks", "expected"),
    [
        ((0, 0, 4), "p p p", "+++"),
        ((0, 0, 4), "f", "!"),  # at once
        ((1, 0, 4), "f p f", "++!"),
        ((1, 0, 4), "f p p p", "++++"),
        ((1, 0, 4), "fp pf", "++"),  # each guardrail has its own count
        ((1, 0, 4), "fp ff", "+!"),
        ((0, 0, 4), "i", "?"),
        ((0, 1, 4), "i p i", "++?"),
        ((0, 0, 4), "n n n n n", "++++!"),  # more than four in a row
        ((0, 0, 4), "n n n n p n n", "+++++++"),  # a good one ends the row
        ((0, 0, 0), "n", "!"),
        ((1, 1, 1), "ip pi", "++"),
        ((0, 0, 4), "if", "!"),  # failed before inconclusive
        ((math.inf, 0, 4), "f f f f", "++++"),  # failures are not counted
        ((2, 0, 4), "f n f n f", "++++!"),
        ((0, 2, 1), "i n i p i", "++++?"),
        ((0, 0, 1), "np np", "+!"),
    ],
)
def test_argos_guardrails_are_judged_each_by_itself(limits, looks, expected):
    assert verdicts(argo, Limits(*limits), looks) == expected


def test_a_new_stage_forgets_what_argo_counts_and_not_what_flagger_does():
    tally, _ = argo(new_tally(2), [Limits(9, 9, 9)] * 2, [Check.FAIL, Check.NO_DATA])
    assert tally == Tally(1, (1, 0), (0, 0), (0, 1))
    assert next_stage(tally) == Tally(1, (0, 0), (0, 0), (0, 0))


def test_without_guardrails_a_rollout_goes_on():
    assert flagger(new_tally(0), Limits(1, 0, 0), [])[1] == Verdict.GO_ON
    assert argo(new_tally(0), [], [])[1] == Verdict.GO_ON


def test_each_guardrail_has_its_own_limits_by_argos_rule():
    limits, looks = [Limits(0, 0, 4), Limits(2, 0, 4)], [[Check.PASS, Check.FAIL]] * 3
    tally, found = new_tally(2), []
    for look in looks:
        tally, verdict = argo(tally, limits, look)
        found.append(verdict)
    assert found == [Verdict.GO_ON, Verdict.GO_ON, Verdict.GO_BACK]


def test_a_guardrail_whose_turn_it_is_not_counts_nothing():
    assert verdicts(argo, Limits(0, 0, 1), "n - n") == "++!"  # the two without data are in a row
    assert verdicts(flagger, Limits(1, 0, 0), "p- f- --") == "+=!"
    assert flagger(new_tally(2), Limits(1, 0, 0), [Check.NOT_DUE, Check.PASS])[1] == Verdict.GO_ON
