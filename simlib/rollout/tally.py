"""How the checks of a rollout decide whether it goes on, waits, pauses or rolls back.

A *look* checks all guardrails at one time. It yields a `Check` for each of them. A rule turns these
into a `Verdict`, and keeps its counts from look to look in a `Tally`.

``flagger``
    A look fails if any guardrail fails. Failed looks are counted over the whole rollout, and a look
    that passes does not reduce the count. When the limit is reached, the *next* look rolls back. So
    at the same rate of false alarms a long rollout is more often rolled back without cause than a
    short one.
``argo``
    Each guardrail has its own counts, which start anew in each stage (or only once, if one analysis
    runs in the background of all stages: then `next_stage` is not called). A guardrail fails after
    more than ``failureLimit`` failed checks, and errs after more than ``consecutiveErrorLimit``
    checks in a row without data. The first one that fails or errs rolls back at once. More than
    ``inconclusiveLimit`` inconclusive checks pause the rollout until a person decides; here it
    stays paused. Checks within the limits delay nothing, but those without data do in an analysis
    that is a step: it lasts until it has been measured often enough.

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
    """The result of checking one guardrail once; NOT_DUE counts nothing: it was not its turn."""

    PASS = 0
    FAIL = 1
    INCONCLUSIVE = 2
    NO_DATA = 3
    NOT_DUE = 4


class Verdict(IntEnum):
    """What the rollout does after a look."""

    GO_ON = 0
    HOLD = 1
    STOP = 2
    GO_BACK = 3


class Limits(NamedTuple):
    """How many checks are tolerated: failed, inconclusive, and consecutive ones without data."""

    failures: float
    inconclusive: int
    errors: int


class Tally(NamedTuple):
    """The counts that a rule keeps: failed looks in all, and each guardrail's in this stage."""

    failed: int
    failures: tuple[int, ...]
    inconclusive: tuple[int, ...]
    errors: tuple[int, ...]


def new_tally(guardrails: int) -> Tally:
    """Return the tally at the start of a rollout.

    Examples
    --------
    >>> new_tally(2)
    Tally(failed=0, failures=(0, 0), inconclusive=(0, 0), errors=(0, 0))
    """
    zeros = (0,) * guardrails
    return Tally(0, zeros, zeros, zeros)


def next_stage(tally: Tally) -> Tally:
    """Return the tally at the start of a stage: the counts of a stage are reset to 0.

    Examples
    --------
    >>> next_stage(Tally(3, (1,), (2,), (4,)))
    Tally(failed=3, failures=(0,), inconclusive=(0,), errors=(0,))
    """
    return new_tally(len(tally.failures))._replace(failed=tally.failed)


def flagger(tally: Tally, limits: Limits, checks: Sequence[Check]) -> tuple[Tally, Verdict]:
    """Return the tally and the verdict after a look, by Flagger's rule.

    Parameters
    ----------
    tally : Tally
    limits : Limits
        After `failures` failed looks the next look rolls back.
    checks : sequence of Check
        One for each guardrail. Checks that are inconclusive or without data hold the stage and are
        not counted. (Flagger itself treats missing data as a failure: pass FAIL for that.)

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
    if all(check in (Check.PASS, Check.NOT_DUE) for check in checks):
        return tally, Verdict.GO_ON
    return tally, Verdict.HOLD


def argo(tally: Tally, limits: Sequence[Limits], checks: Sequence[Check]) -> tuple[Tally, Verdict]:
    """Return the tally and the verdict after a look, by the rule of Argo Rollouts' analyses.

    Parameters
    ----------
    tally : Tally
    limits : sequence of Limits
        The largest tolerated numbers of each guardrail, in each stage.
    checks : sequence of Check
        One for each guardrail.

    Examples
    --------
    >>> tally, limits = new_tally(1), [Limits(1, 0, 4)]
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
        count if check == Check.NOT_DUE else count + 1 if check == Check.NO_DATA else 0
        for count, check in zip(tally.errors, checks, strict=True)
    )
    tally = Tally(tally.failed + (Check.FAIL in checks), failures, inconclusive, errors)
    each = list(zip(limits, failures, errors, inconclusive, strict=True))
    if any(failed > most.failures or erred > most.errors for most, failed, erred, _ in each):
        return tally, Verdict.GO_BACK
    if any(open_ > most.inconclusive for most, _, _, open_ in each):
        return tally, Verdict.STOP
    return tally, Verdict.GO_ON


def _counted(counts: tuple[int, ...], checks: Sequence[Check], which: Check) -> tuple[int, ...]:
    return tuple(count + (check == which) for count, check in zip(counts, checks, strict=True))
