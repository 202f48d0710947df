"""What ends a broadcast: a change of the set, another broadcast, a set that breaks."""

from __future__ import annotations

import numpy as np
import pytest

from simlib.core.broadcasts import (
    SOUND,
    Loop,
    LoopRules,
    change_set,
    fails_at,
    forgets,
    goes_on,
    may_end,
)
from simlib.core.record import Count, Kept, Record, leave_out

PLAIN = LoopRules(True, 0.0, False, 0.0)


def test_a_sound_loop_never_ends_early():
    loop = Loop()
    assert not may_end(SOUND)
    for version in (1, 2):
        assert goes_on(SOUND, loop, version)
        change_set(loop)
        assert goes_on(SOUND, loop, version)
    loop.ends_s = 10.0
    assert fails_at(SOUND, loop, 1, 0, 0, 2, 5.0) == 1.0
    assert not forgets(SOUND, 1, 0, 0, 0, 200)


def test_a_change_of_a_plain_set_ends_every_broadcast_that_has_begun_and_no_other():
    loop = Loop()
    assert goes_on(PLAIN, loop, 3)
    assert goes_on(PLAIN, loop, 4)
    change_set(loop)
    assert [goes_on(PLAIN, loop, version) for version in (3, 4, 5)] == [False, False, True]


def test_a_change_before_the_first_send_ends_nothing():
    loop = Loop()
    change_set(loop)
    assert goes_on(PLAIN, loop, 1)


@pytest.mark.parametrize("frac", [0.1, 0.38, 1.0])
def test_of_the_updates_that_meet_a_share_fails_anywhere_with_the_same_probability(frac):
    rules, loop, n = PLAIN._replace(meeting_fails_frac=frac), Loop(), 4000
    loop.ends_s = 1.0
    shares = np.array([fails_at(rules, loop, 5, 0, 0, version, 0.5) for version in range(n)])
    failed = shares[shares < 1.0]
    assert abs(len(failed) / n - frac) <= 4.0 * (frac * (1.0 - frac) / n) ** 0.5
    assert abs(failed.mean() - 0.5) < 4.0 * (1.0 / 12.0 / len(failed)) ** 0.5
    alone = [fails_at(rules, loop, 5, 0, 0, version, 1.0) for version in range(n)]
    assert set(alone) == {1.0}


def test_sets_break_as_often_as_they_should():
    rules, n = PLAIN._replace(forget_frac=0.12), 4000
    broken = sum(forgets(rules, 5, 0, 0, index, 200) for index in range(n))
    assert abs(broken / n - 0.12) < 4.0 * (0.12 * 0.88 / n) ** 0.5


def test_an_update_fails_once_however_many_miss_it():
    publish_s, start_s = np.array([1.0, 2.0]), np.zeros(3)
    record = Record(
        publish_s,
        start_s,
        start_s + 10.0,
        counted_s=(0.0, 10.0),
        horizon_s=10.0,
        bin_s=5.0,
        kept=Kept(failures=True),
    )
    for client in range(3):
        leave_out(record, client, 1, 1.0)
    leave_out(record, 2, 2, 6.0)
    assert record.bins[0, :, Count.FAILED_UPDATES].tolist() == [1, 1]
    assert record.bins[0, :, Count.UNSENT].tolist() == [3, 1]
