"""Users' habits and the delays of clients that lost their connection."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib import theory
from simlib.core.draws import Stream
from simlib.core.habits import episode_s
from simlib.core.reconnect import Policy, delay_s, doubled_s


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


@given(base_s=st.floats(0.01, 10.0), k=st.integers(0, 2000), cap_s=st.floats(0.01, 100.0))
def test_ceilings_double_up_to_the_cap(base_s, k, cap_s):
    assert doubled_s(base_s, k, cap_s) == pytest.approx(min(base_s * 2.0 ** min(k, 60), cap_s))


@given(k=st.integers(0, 50), u=st.floats(0.0, 1.0, exclude_max=True))
def test_full_jitter_is_a_share_of_the_ceiling_and_fixed_is_fixed(k, u):
    assert delay_s(Policy.FULL_JITTER, k, 1.0, 30.0, u) == u * min(2.0**k, 30.0)
    assert delay_s(Policy.FIXED, k, 1.0, 30.0, u) == 1.0
