"""Rollback time: from the change of a flag until the tabs poll again."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from simlib.errors import ScenarioError
from simlib.theory.arguments import FloatArray, plain, real, reals, whole_count


def rollback_time_s(
    share: ArrayLike,
    *,
    session_s: float | None = None,
    length: str = "exponential",
    every_s: float | None = None,
    delay_s: float = 0.0,
) -> float | FloatArray:
    """Return the time after a rollback until a share of the push tabs is no longer pushed to.

    A tab goes back when its session ends or when it reads the flag, whichever comes first. Sessions
    are in a steady state. No tab goes back during `delay_s`, until the change can be read.

    Parameters
    ----------
    share : float or array of float
        In [0, 1].
    session_s : float, optional
        Mean session length, seconds, > 0; not given: sessions do not end.
    length : {"exponential", "constant"}, optional
        Distribution of the session length; the rest of a running session is exponential with the
        same mean, or uniform up to the length.
    every_s : float, optional
        Time between two readings of the flag, seconds, > 0; not given: tabs read it only at the
        start of a session. Together with constant lengths it has no closed form here.
    delay_s : float, optional
        Time until a change can be read, such as that of a build and a deploy, seconds, >= 0.

    Returns
    -------
    float or ndarray of float64
        Seconds, of the shape of `share`; infinite for the last tab of exponential sessions, see
        `last_tab_s`.

    Raises
    ------
    ScenarioError
        An argument is out of range, or neither `session_s` nor `every_s` is given.

    References
    ----------
    Cox (1962), Renewal Theory, chapter 5: the forward recurrence time.

    Examples
    --------
    A flag that is polled every minute, and one that tabs keep for a session of half an hour:

    >>> [
    ...     round(rollback_time_s(0.99, every_s=60.0), 1),
    ...     round(rollback_time_s(0.99, session_s=1800.0)),
    ... ]
    [59.4, 8289]
    """
    shares = reals("share", share, "[0, 1]")
    delay_s = real("delay_s", delay_s, "[0, inf)")
    if length not in ("exponential", "constant"):
        raise ScenarioError("length", length, "must be exponential or constant")
    if every_s is not None:
        every_s = real("every_s", every_s, "(0, inf)")
    if session_s is not None:
        session_s = real("session_s", session_s, "(0, inf)")
    if session_s is None:
        if every_s is None:
            rule = "must be given when there is no every_s: nobody would ever go back"
            raise ScenarioError("session_s", None, rule)
        return plain(delay_s + shares * every_s)
    if length == "constant":
        if every_s is not None:
            raise ScenarioError("length", length, "must be exponential when every_s is given")
        return plain(delay_s + shares * session_s)
    if every_s is None:
        with np.errstate(divide="ignore"):
            return plain(np.asarray(delay_s - session_s * np.log1p(-shares)))
    # The share left after t is (1 - t / every) exp(-t / session), which Lambert's W inverts.
    from scipy.special import lambertw

    ratio = every_s / session_s
    left = every_s - session_s * lambertw((1.0 - shares) * ratio * np.exp(ratio)).real
    return plain(np.asarray(delay_s + left))


def left_frac(
    t_s: ArrayLike,
    *,
    session_s: float | None = None,
    length: str = "exponential",
    every_s: float | None = None,
    delay_s: float = 0.0,
) -> float | FloatArray:
    """Return the share of the tabs that are still pushed to some time after a rollback.

    Parameters
    ----------
    t_s : float or array of float
        Seconds since the rollback, >= 0.
    session_s, length, every_s, delay_s : optional
        As for `rollback_time_s`, whose inverse this is.

    Returns
    -------
    float or ndarray of float64
        In [0, 1], of the shape of `t_s`.

    Raises
    ------
    ScenarioError
        As `rollback_time_s`.

    Examples
    --------
    >>> float(round(left_frac(1800.0, session_s=1800.0), 3))
    0.368
    """
    rollback_time_s(0.5, session_s=session_s, length=length, every_s=every_s, delay_s=delay_s)
    since_s = np.maximum(reals("t_s", t_s, "[0, inf)") - delay_s, 0.0)
    exposure = np.ones_like(since_s)
    if session_s is not None:
        rest = np.maximum(1.0 - since_s / session_s, 0.0)
        exposure = rest if length == "constant" else np.exp(-since_s / session_s)
    deaf = 1.0 if every_s is None else np.maximum(1.0 - since_s / every_s, 0.0)
    return plain(np.asarray(exposure * deaf))


def last_tab_s(tabs: int, session_s: float) -> float:
    """Return the mean time until the last of some tabs with exponential sessions is gone, seconds.

    Parameters
    ----------
    tabs : int
        >= 1.
    session_s : float
        Mean session length, seconds, > 0.

    Returns
    -------
    float
        ``session_s`` times the harmonic number of `tabs`.

    Raises
    ------
    ScenarioError
        An argument is out of range.

    References
    ----------
    Feller (1971), An Introduction to Probability Theory and Its Applications II, section I.6.

    Examples
    --------
    >>> round(last_tab_s(10_000, 1800.0) / 3600.0, 2)
    4.89
    """
    numbers = np.arange(1, whole_count("tabs", tabs) + 1)
    return float(real("session_s", session_s, "(0, inf)") * (1.0 / numbers).sum())
