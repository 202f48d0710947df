"""Rehearse a web app's move from polling to WebSocket: simulate, measure, compare, decide.

The names below are the whole public interface. Each is imported when it is first used, so
``import simlib`` costs next to nothing.

*The guide*, in names and texts, is a migration guide: it proposes to move React Query's polling
every 30 s to WebSocket, behind a percentage rollout with rollback.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simlib import figures as figures
    from simlib import guide as guide
    from simlib import lab as lab
    from simlib import theory as theory
    from simlib import verdict as verdict
    from simlib import web as web
    from simlib.analysis import bucketing as bucketing
    from simlib.analysis import metrics as metrics
    from simlib.analysis import outages as outages
    from simlib.analysis import rollouts as rollouts
    from simlib.analysis.metrics import summary as summary
    from simlib.engines import estimate as estimate
    from simlib.engines import simulate as simulate
    from simlib.errors import Interrupted as Interrupted
    from simlib.errors import LedgerError as LedgerError
    from simlib.errors import LiveError as LiveError
    from simlib.errors import ProtocolError as ProtocolError
    from simlib.errors import RunFileError as RunFileError
    from simlib.errors import ScenarioError as ScenarioError
    from simlib.errors import SimlibError as SimlibError
    from simlib.errors import interrupted as interrupted
    from simlib.experiment import by_theory as by_theory
    from simlib.experiment import compare as compare
    from simlib.experiment import grid as grid
    from simlib.experiment import replicate as replicate
    from simlib.experiment import sweep as sweep
    from simlib.experiment import variants as variants
    from simlib.guide.auditing import audit as audit
    from simlib.guide.corrected import corrected_guide as corrected_guide
    from simlib.live import measure as measure
    from simlib.live import on_loopback as on_loopback
    from simlib.publish import notebook as notebook
    from simlib.publish.reference import settings as settings
    from simlib.rollout import trials as trials
    from simlib.rollout.linting import lint as lint
    from simlib.rollout.plan import Plan as Plan
    from simlib.rollout.trials import rehearse as rehearse
    from simlib.rollout.trials import roll_out as roll_out
    from simlib.rollout.trials import tune as tune
    from simlib.run import Ledger as Ledger
    from simlib.run import Run as Run
    from simlib.scenario import Scenario as Scenario
    from simlib.scenario.presets import library as library
    from simlib.scenario.presets import proxy as proxy
    from simlib.scenario.presets import server as server
    from simlib.sizing import fewest as fewest
    from simlib.sizing import find_limit as find_limit
    from simlib.verdict.judging import decide as decide
    from simlib.verdict.needs import Needs as Needs
    from simlib.verdict.needs import Prices as Prices

__version__ = "0.1.0"

# Where each public name lives: a module of that name, or an attribute of one.
_HOMES = {
    "Interrupted": "errors",
    "Ledger": "run",
    "LedgerError": "errors",
    "LiveError": "errors",
    "Needs": "verdict.needs",
    "Plan": "rollout.plan",
    "Prices": "verdict.needs",
    "ProtocolError": "errors",
    "Run": "run",
    "RunFileError": "errors",
    "Scenario": "scenario",
    "ScenarioError": "errors",
    "SimlibError": "errors",
    "audit": "guide.auditing",
    "bucketing": "analysis.bucketing",
    "by_theory": "experiment",
    "compare": "experiment",
    "corrected_guide": "guide.corrected",
    "decide": "verdict.judging",
    "estimate": "engines",
    "fewest": "sizing",
    "find_limit": "sizing",
    "figures": "figures",
    "grid": "experiment",
    "guide": "guide",
    "interrupted": "errors",
    "lab": "lab",
    "library": "scenario.presets",
    "lint": "rollout.linting",
    "measure": "live",
    "metrics": "analysis.metrics",
    "notebook": "publish.notebook",
    "on_loopback": "live",
    "outages": "analysis.outages",
    "proxy": "scenario.presets",
    "rehearse": "rollout.trials",
    "replicate": "experiment",
    "roll_out": "rollout.trials",
    "rollouts": "analysis.rollouts",
    "settings": "publish.reference",
    "simulate": "engines",
    "summary": "analysis.metrics",
    "server": "scenario.presets",
    "sweep": "experiment",
    "theory": "theory",
    "trials": "rollout.trials",
    "tune": "rollout.trials",
    "variants": "experiment",
    "verdict": "verdict",
    "web": "web",
}

__all__ = list(_HOMES)

_INSIDE = {
    "verdict": (
        *("break_even", "tornado", "sobol", "sentence_of", "turning_points"),
        *("Release", "Trouble"),
    )
}
"""What is looked for among the names above, and is in one of them."""
_RENAMED = {"cohorts": "bucketing", "rehearsal": "trials"}


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        from simlib.renamed import warn

        warn(f"simlib.{name}", f"simlib.{_RENAMED[name]}")
        name = _RENAMED[name]
    if name not in _HOMES:
        inside = [module for module, names in _INSIDE.items() if name in names]
        meant = f"; did you mean simlib.{inside[0]}.{name}?" if inside else ""
        raise AttributeError(f"module 'simlib' has no attribute {name!r}{meant}")
    home = import_module(f"simlib.{_HOMES[name]}")
    return home if _HOMES[name].rpartition(".")[2] == name else getattr(home, name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
