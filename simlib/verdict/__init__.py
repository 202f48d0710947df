"""Should we, and to what: candidates judged by needs on common draws, and what would change it."""

from simlib.verdict.assumptions import ASSUMPTIONS, SWITCHES
from simlib.verdict.candidates import CANDIDATES, Candidate
from simlib.verdict.decision import Decision, Sentence
from simlib.verdict.judging import decide
from simlib.verdict.measures import JUDGED, Judged
from simlib.verdict.needs import Needs, Prices, Release, Trouble
from simlib.verdict.sensitivity import break_even, sobol, tornado
from simlib.verdict.sentences import sentence_of, turning_points

__all__ = [
    "ASSUMPTIONS",
    "CANDIDATES",
    "JUDGED",
    "SWITCHES",
    "Candidate",
    "Decision",
    "Judged",
    "Needs",
    "Prices",
    "Release",
    "Sentence",
    "Trouble",
    "break_even",
    "decide",
    "sentence_of",
    "sobol",
    "tornado",
    "turning_points",
]


def __dir__() -> list[str]:
    return sorted(__all__)
