"""What an explorer's page warns of: the sentences of `run.warnings`, wherever its sliders are.

Sentences follow from a scenario, and say by which numbers of a run they are true. So Python makes
them for each position of the sliders that decide about them, and a page fills its numbers in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from simlib.rollout.plan import Plan
from simlib.run.sentences import Sentence
from simlib.run.warnings import CHECKS, Rule, foreseen
from simlib.scenario import Scenario
from simlib.scenario.display import differences
from simlib.web.sliders import Slider, moved

_MOST_TOGETHER = 4000
"""So many positions of sliders together have sentences of their own; a kind of more is named."""
_NOT_OF_PAGES = ("incomplete", "overloaded", "shared", "late", "not quiet")
"""What a run that a page simulates to its end cannot be warned of."""
_OF_EXPOSURES = ("warm-up",)
"""What a rollout's run is warned of by when its users were enrolled, which is known afterwards."""


class Warned(NamedTuple):
    """The sentences of one kind of warning.

    Attributes
    ----------
    sliders : tuple of int
        The numbers of the sliders that decide about them.
    which : tuple of int
        For each combination of their positions, which of `sentences`; those of the last slider
        change first.
    sentences : tuple of tuple of Sentence
        Of each, the first that is true is said.
    """

    sliders: tuple[int, ...]
    which: tuple[int, ...]
    sentences: tuple[tuple[Sentence, ...], ...]


def warned(
    scenario: Scenario, sliders: Sequence[Slider], plan: Plan | None = None
) -> tuple[dict[str, Warned], list[str]]:
    """Return the sentences of a scenario by the kinds of warnings, and which kinds have none here.

    Parameters
    ----------
    scenario : Scenario
    sliders : sequence of Slider
        Of that scenario.
    plan : Plan, optional
        What is carried out on the scenario. Its own settings decide about no sentence.
    """
    transports = () if plan is None else plan.flag_rules.transports
    touched = [_touched(scenario, slider) for slider in sliders]
    found, left_out = {}, [kind for kind in CHECKS if kind not in _NOT_OF_PAGES]
    for kind, check in CHECKS.items():
        if isinstance(check, Rule) and (plan is None or kind not in _OF_EXPOSURES):
            deciding = [
                number for number, paths in enumerate(touched) if _meets(paths, check.reads)
            ]
            lengths = [len(sliders[number].values) for number in deciding]
            if math.prod(lengths) <= _MOST_TOGETHER:
                mine = [(number, sliders[number]) for number in deciding]
                found[kind] = _warned(scenario, transports, mine, check)
                left_out.remove(kind)
    return found, left_out


def _warned(
    scenario: Scenario,
    transports: Sequence[int],
    deciding: Sequence[tuple[int, Slider]],
    rule: Rule,
) -> Warned:
    alone = [slider for _, slider in deciding]
    places: dict[tuple[Sentence, ...], int] = {}
    which = []
    for positions in itertools.product(*(range(len(slider.values)) for slider in alone)):
        there = foreseen(moved(scenario, alone, positions), transports)
        sentences = tuple(rule.sentences(there))
        which.append(places.setdefault(sentences, len(places)))
    if len(places) == 1:
        return Warned((), (0,), tuple(places))
    return Warned(tuple(number for number, _ in deciding), tuple(which), tuple(places))


def _touched(scenario: Scenario, slider: Slider) -> set[str]:
    """Return the settings that a slider moves."""
    here: dict[str, Any] = scenario.model_dump()
    found: set[str] = set()
    for position in range(len(slider.values)):
        found |= differences(here, slider.applied(scenario, position).model_dump()).keys()
    return found


def _meets(paths: set[str], reads: Sequence[str]) -> bool:
    """Say whether some settings are among others, or in a part that is, or have one within."""
    return any(
        f"{path}.".startswith(f"{read}.") or f"{read}.".startswith(f"{path}.")
        for path in paths
        for read in reads
    )


def as_json(kinds: dict[str, Warned]) -> list[Any]:
    """Return them for `view.js`; what never says anything is left out."""
    return [each._asdict() for each in kinds.values() if any(each.sentences)]
