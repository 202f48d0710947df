"""What a rollout makes of its checks: go on, wait, or go back.

Each look at the guardrails gives every one of them a `Check`. A rule turns what they say into a
`Verdict`, and remembers no more than a `Tally`.

``flagger``
    One failed check of any guardrail makes the look a failed one. Failed looks are counted over
    the whole rollout, and a good one takes none of them back; the rollout goes back at the look
    *after* there are so many. So a long rollout is more likely to go back for nothing than a short
    one, at the same rate of false alarms.
``argo``
    Each guardrail is judged by itself, anew in each stage (unless one analysis runs in the
    background of them all: then `next_stage` is left out): it fails when more of its checks have
    failed than it bears, errs when more in a row than it bears found no data. The first that does
    takes the rollout back at once. Checks that say neither yes nor no, more of them than are borne,
    stop it where it is until somebody looks: here, for good. What is borne holds nothing up, as an
    analysis runs in the background.

References
----------
Flagger, pkg/controller/scheduler.go (``advanceCanary``); Argo Rollouts, analysis/analysis.go
(``assessMetricStatus``) and docs/features/analysis.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple


class Check(IntEnum):
    """What one look at one guardrail says."""

    PASS = 0
    FAIL = 1
    INCONCLUSIVE = 2
    NO_DATA = 3


class Verdict(IntEnum):
    """What the rollout does."""

    GO_ON = 0
    HOLD = 1
    STOP = 2
    GO_BACK = 3


class Limits(NamedTuple):
    """How much is borne: failed checks, those without a verdict, and in a row without data."""

    failures: float
    inconclusive: int
    errors: int


class Tally(NamedTuple):
    """What a rule remembers: looks that failed, and of each guardrail its checks in this stage."""

    failed: int
    failures: tuple[int, ...]
    inconclusive: tuple[int, ...]
    errors: tuple[int, ...]


def new_tally(guardrails: int) -> Tally:
    """Return the tally of a rollout that begins.

    Examples
    --------
    >>> new_tally(2)
    Tally(failed=0, failures=(0, 0), inconclusive=(0, 0), errors=(0, 0))
    """
    zeros = (0,) * guardrails
    return Tally(0, zeros, zeros, zeros)


def next_stage(tally: Tally) -> Tally:
    """Return the tally at the start of a stage: what is counted by stage begins anew.

    Examples
    --------
    >>> next_stage(Tally(3, (1,), (2,), (4,)))
    Tally(failed=3, failures=(0,), inconclusive=(0,), errors=(0,))
    """
    return new_tally(len(tally.failures))._replace(failed=tally.failed)


def flagger(tally: Tally, limits: Limits, checks: Sequence[Check]) -> tuple[Tally, Verdict]:
    """Return what Flagger's rule makes of a look.

    Parameters
    ----------
    tally : Tally
    limits : Limits
        `failures` looks that fail take the rollout back, at the next look.
    checks : sequence of Check
        One of each guardrail; what has no verdict or no data holds the stage and counts nothing
        (Flagger itself takes no data for a failure: let such a check say FAIL).

    Examples
    --------
    >>> tally, limits = new_tally(1), Limits(2, 0, 0)
    >>> for check in (Check.FAIL, Check.PASS, Check.FAIL, Check.PASS):
    ...     tally, verdict = flagger(tally, limits, [check])
    ...     verdict.name, tally.failed
    ('HOLD', 1)
    ('GO_ON', 1)
    ('HOLD', 2)
    ('GO_BACK', 2)
    """
    if tally.failed >= limits.failures:
        return tally, Verdict.GO_BACK
    if Check.FAIL in checks:
        return tally._replace(failed=tally.failed + 1), Verdict.HOLD
    if all(check == Check.PASS for check in checks):
        return tally, Verdict.GO_ON
    return tally, Verdict.HOLD


def argo(tally: Tally, limits: Limits, checks: Sequence[Check]) -> tuple[Tally, Verdict]:
    """Return what the rule of an Argo Rollouts analysis makes of a look.

    Parameters
    ----------
    tally : Tally
    limits : Limits
        Each of one guardrail in one stage; so many are borne, and one more is not.
    checks : sequence of Check
        One of each guardrail.

    Examples
    --------
    >>> tally, limits = new_tally(1), Limits(1, 0, 4)
    >>> for check in (Check.FAIL, Check.PASS, Check.FAIL):
    ...     tally, verdict = argo(tally, limits, [check])
    ...     verdict.name, tally.failures
    ('GO_ON', (1,))
    ('GO_ON', (1,))
    ('GO_BACK', (2,))
    """
    failures = _counted(tally.failures, checks, Check.FAIL)
    inconclusive = _counted(tally.inconclusive, checks, Check.INCONCLUSIVE)
    errors = tuple(
        count + 1 if check == Check.NO_DATA else 0
        for count, check in zip(tally.errors, checks, strict=True)
    )
    tally = Tally(tally.failed + (Check.FAIL in checks), failures, inconclusive, errors)
    if any(count > limits.failures for count in failures):
        return tally, Verdict.GO_BACK
    if any(count > limits.errors for count in errors):
        return tally, Verdict.GO_BACK
    if any(count > limits.inconclusive for count in inconclusive):
        return tally, Verdict.STOP
    return tally, Verdict.GO_ON


def _counted(counts: tuple[int, ...], checks: Sequence[Check], which: Check) -> tuple[int, ...]:
    return tuple(count + (check == which) for count, check in zip(counts, checks, strict=True))
