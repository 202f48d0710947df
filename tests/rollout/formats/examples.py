"""Files of every format that tests change and load."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

import simlib as sl

POLLED = {"propagation": "polled", "every_s": 60.0}
PLANS = Path(__file__).parents[3] / "data/plans"
SAID = {
    "flagger_canary.yaml": {},
    "argo_rollout.yaml": {"gate_s": 120, "metrics": {"delivery-p95": ("latency_p95_s", 0.001)}},
    "unleash_schedule.json": {
        "metrics": {"unleash_histogram_delivery_seconds p95": "latency_p95_s"}
    },
    "growthbook_ramp.json": {"gate_s": 60, "bucketing": {"rule": "growthbook"}},
}


def load(folder, value, file="plan.yaml", **said):
    """Load what is written to a file; a list is several documents."""
    path = folder / file
    if not isinstance(value, str):
        documents = value if isinstance(value, list) else [value]
        value = json.dumps(value) if file.endswith("json") else yaml.safe_dump_all(documents)
    path.write_text(value, encoding="utf-8")
    return sl.Plan.load(path, **{"flag": POLLED, **said})


def changed(document, path, value):
    """Return a copy of a document with another value at a path; ... takes it away."""
    document = json.loads(json.dumps(document))
    place = document
    *sections, last = path.split(".")
    for section in sections:
        place = place[int(section)] if isinstance(place, list) else place.setdefault(section, {})
    key = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return document


CANARY = {
    "apiVersion": "flagger.app/v1beta1",
    "kind": "Canary",
    "metadata": {"name": "push", "labels": {"team": "desk"}},
    "spec": {
        "provider": "istio",
        "targetRef": {"kind": "Deployment", "name": "push"},
        "progressDeadlineSeconds": 60,
        "service": {"port": 9898},
        "analysis": {
            "interval": "1m30s",
            "threshold": 10,
            "maxWeight": 50,
            "stepWeight": 20,
            "stepWeightPromotion": 50,
            "metrics": [
                {
                    "name": "request-duration",
                    "thresholdRange": {"max": 700},
                    "interval": "90s",
                },
                {
                    "name": "utilisation",
                    "thresholdRange": {"min": 0.01, "max": 0.9},
                    "interval": "90s",
                    "templateRef": {"name": "cpu"},
                },
            ],
            "webhooks": [
                {"name": "may we", "type": "confirm-promotion", "url": "http://a"},
                {"name": "tell", "type": "event", "url": "http://a"},
            ],
        },
    },
}
CANARY_SAID = {"gate_s": "5 min", "metrics": {"request-duration": ("latency_p99_s", 0.001)}}


def metric(name, **changes):
    return {
        "name": name,
        "interval": "1m",
        "successCondition": "result[0] <= 2",
        "provider": {"prometheus": {"query": "up"}},
        **changes,
    }


def rollout(*steps, **canary):
    spec = {"replicas": 3, "strategy": {"canary": {"steps": list(steps), **canary}}}
    return {"kind": "Rollout", "metadata": {"name": "push"}, "spec": spec}


def template(*metrics, **spec):
    spec = {"metrics": list(metrics), **spec}
    return {"kind": "AnalysisTemplate", "metadata": {"name": "health"}, "spec": spec}


HEALTH = {"templates": [{"templateName": "health"}]}
BACKGROUND = [
    rollout(
        {"pause": {}},
        {"setWeight": 20},
        {"pause": {"duration": "10m"}},
        {"pause": {}},
        {"setWeight": 40},
        {"pause": {"duration": 300}},
        {"pause": {"duration": "60"}},
        {"setWeight": 60},
        {"pause": {}},
        analysis=HEALTH,
    ),
    template(
        metric("latency_p95_s", failureLimit=3, failureCondition="result[0] > 5"),
        metric("cpu", failureLimit="3", successCondition="result[0] < 0.5", initialDelay="2m"),
        metric(
            "memory_bytes", failureLimit=3, successCondition="", failureCondition="result[0] >= 9"
        ),
    ),
]
CPU = {"cpu": "utilisation"}
INLINE = {**HEALTH, "args": [{"name": "n", "value": "5"}]}
STEPS = [
    rollout(
        {"setWeight": 20},
        {"analysis": INLINE},
        {"pause": {}},
        {"setWeight": 50},
        {"analysis": {**HEALTH, "args": [{"name": "n", "value": "10"}]}},
        {"setWeight": 100},
    ),
    template(
        metric("error_rate_per_h", count="{{args.n}}", failureLimit=-1, consecutiveErrorLimit=2),
        args=[{"name": "n"}],
    ),
]

UNLEASH = json.loads((PLANS / "unleash_schedule.json").read_text(encoding="utf-8"))
GROWTHBOOK = json.loads((PLANS / "growthbook_ramp.json").read_text(encoding="utf-8"))
