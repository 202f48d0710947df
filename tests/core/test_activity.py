"""Users' habits: episodes that follow each other."""

from __future__ import annotations

import numpy as np

from simlib import theory
from simlib.core.activity import episode_s
from simlib.core.draws import Stream


def test_episodes_follow_each_other_with_the_means_asked_for():
    gaps, lengths, t = [], [], 0.0
    for k in range(4000):
        start_s, end_s = episode_s(1, 0, 3, Stream.DRAG_GAP, Stream.DRAG_LENGTH, k, t, 60.0, 3.0)
        gaps.append(start_s - t)
        lengths.append(end_s - start_s)
        t = end_s
    assert min(gaps) >= 0
    assert min(lengths) >= 0
    assert abs(np.mean(gaps) - 60.0) < 4 * theory.standard_error(gaps)
    assert abs(np.mean(lengths) - 3.0) < 4 * theory.standard_error(lengths)
