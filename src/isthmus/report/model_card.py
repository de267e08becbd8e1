"""The model card: one set of facts, written for people (Markdown) and for machines (JSON)."""

import json
from collections.abc import Sequence
from typing import Any

from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.report.data_facts import data_warnings
from isthmus.report.leaderboard import candidate_of
from isthmus.report.page import render
from isthmus.report.results import Findings, extended_epochs
from isthmus.report.verdict import judge


def model_card(findings: Findings) -> dict[str, Any]:
    """Returns the card as JSON types. `target` is None where the target has no labels."""
    scenario = findings.scenario
    return common_facts(findings) | {
        "intended_use": (
            f"Sort {scenario.kind.replace('_', ' ')} images of '{scenario.target}' into these classes:"
            f" {', '.join(findings.facts['classes'])}. Images must come from the same kind of device and be prepared"
            " by the pipeline that is packed with the model."
        ),
        "not_for": [
            "Images of another domain than those listed under 'Data'.",
            "Classes that are not listed: the model always answers with one of them.",
            "Decisions about people or safety without a person who checks them.",
        ],
        "target": _target(findings),
        "trust": _trust(findings),
        "limits": _limits(findings),
    }


def as_markdown(card: dict[str, Any]) -> str:
    """Returns the card for people; every number in it is one of the card's own."""
    return rendered("model_card.md.jinja", card)


def rendered(template: str, card: dict[str, Any]) -> str:
    """Fills a card's template."""
    config_text = json.dumps(card["method"]["config"], indent=2, sort_keys=True)
    return render(template, **(card | {"method": card["method"] | {"config_text": config_text}}))


def common_facts(findings: Findings) -> dict[str, Any]:
    """Returns the facts that the cards of all tasks have."""
    verdict = judge(findings)
    return {
        "name": findings.name,
        "score": {"key": findings.scored.metric, "name": findings.scored.name},
        "simulated": findings.simulated,
        "warnings": data_warnings(findings),
        "verdict": {"label": verdict.label, "headline": verdict.headline, "detail": verdict.detail},
        "data": _data(findings),
        "method": _method(findings),
        "choice": _choice(findings),
        "metrics": findings.metrics,
        "made_by": _made_by(findings),
    }


def common_limits(findings: Findings) -> list[str]:
    """Returns what limits a model whatever its task: simulated or few images, absent classes, nothing adapted."""
    limits = []
    if findings.simulated:
        limits.append("The images are simulated; real devices differ in ways the generator does not know.")
    if findings.labelled:
        limits.append(f"Measured on {findings.truth['count']} target test images of one collection; see the intervals.")
    if findings.absent:
        limits.append(f"Without a target test {findings.scored.unit}, so not measured: {', '.join(findings.absent)}.")
    if findings.choice["chosen"]["fallback"]:
        limits.append("Nothing was adapted: this is the source-only model.")
    return limits


def _data(findings: Findings) -> dict[str, Any]:
    counts = findings.manifest.groupby(["domain", "split"]).size()
    splits = ("train", "val", "cal", "test")
    rows = [
        {
            "domain": domain,
            "role": "target" if domain == findings.scenario.target else "source",
            "split": split,
            "images": int(counts[(domain, split)]),
        }
        for domain in findings.scenario.domains
        for split in splits
        if (domain, split) in counts.index
    ]
    return {
        "kind": findings.scenario.kind.replace("_", " "),
        "classes": findings.facts["classes"],
        "width": findings.facts["width"],
        "height": findings.facts["height"],
        "channels": findings.facts["channels"],
        "target_labels": _labels_of_target(findings),
        "counts": rows,
        "quarantined": len(findings.quarantine) + len(findings.facts["quarantine"]),
    }


def _labels_of_target(findings: Findings) -> str:
    tested = "used by the evaluation alone" if findings.read_labels else "none"
    count = findings.target_labels
    return f"of the test split {tested}; of the training split {count} used for training" if count else tested


def _method(findings: Findings) -> dict[str, Any]:
    chosen = findings.choice["chosen"]
    run = findings.runs[chosen["method"]]
    learned = {"target_labels": findings.target_labels} if findings.target_labels else {}
    extended = extended_epochs(findings.runs)
    more = {"extended": extended} if extended else {}
    return learned | more | {
        "name": chosen["method"],
        "epoch": chosen["epoch"],
        "seed": chosen["seed"],
        "seeds": run["seeds"],
        "mode": run["mode"],
        "sees_target": run["sees_target"],
        "config": run["config"],
    }  # fmt: skip


def _choice(findings: Findings) -> dict[str, Any]:
    chosen, candidates = findings.choice["chosen"], findings.choice["candidates"]
    return {
        "why": chosen["why"],
        "fallback": chosen["fallback"],
        "guards": findings.choice["guards"],
        "scores": candidate_of(findings, chosen["method"], chosen["epoch"])["scores"],
        "candidates": len(candidates),
        "eligible": sum(not candidate["refused"] for candidate in candidates),
    }


def target_facts(findings: Findings, facts: Sequence[str], scores: Sequence[str]) -> dict[str, Any]:
    """Returns what was measured on the target of the chosen method, where there are labels.

    Args:
        findings: of the scenario.
        facts: keys of `truth.json`.
        scores: keys of a method there.
    """
    method, truth = findings.choice["chosen"]["method"], findings.truth
    mine = truth["methods"][method]
    return {
        **{key: truth[key] for key in ("count", "intervals", "regret", *facts)},
        **{key: mine[key] for key in scores},
        "minus_source_only": None if method == SOURCE_ONLY else mine["minus_source_only"],
        "oracle": truth["oracle"]["method"],
    }


def transfers(findings: Findings) -> dict[str, str]:
    """Returns how each method compares with source-only."""
    return {method: row["transfer"] for method, row in findings.truth["methods"].items()}


def _target(findings: Findings) -> dict[str, Any] | None:
    if not findings.labelled:
        return None
    facts = target_facts(findings, (), ("balanced_accuracy", "accuracy"))
    method, truth = findings.choice["chosen"]["method"], findings.truth
    per_class = truth["methods"][method]["per_class"]
    return facts | {
        "per_class": {name: per_class[name] for name in findings.facts["classes"]},
        "anomaly": _anomaly(truth, method),
    }


def _anomaly(truth: dict[str, Any], method: str) -> dict[str, Any] | None:
    """Returns what is known of a detector of defects beside its classes; None of other tasks."""
    if "anomaly" not in truth:
        return None
    found = truth["anomaly"]
    kept = ("false_alarm_rate", "found", "pixel_auroc", "aupro")
    own = {key: found["methods"][method][key] for key in kept}
    return own | {"auroc": truth["methods"][method]["auroc"], "promised": found["false_alarms"]}


def _trust(findings: Findings) -> dict[str, Any]:
    """Returns uncertainty and calibration without target labels and, where there are labels, measured with them."""
    trust, held = findings.trust, findings.truth["trust"] if findings.labelled else None
    estimate, sets = trust["estimate"], trust["conformal"]
    return {
        "estimate": {key: estimate[key] for key in ("accuracy", "low", "high", "cannot_tell")},
        "true_accuracy": held["estimate"]["true_accuracy"] if held else None,
        "calibration_error_source": trust["calibration"]["source_test"]["calibrated"]["ece"],
        "calibration_error_target": held["calibration"]["calibrated"]["ece"] if held else None,
        "promised_coverage": sets["coverage"],
        "coverage_source": sets["source_test"]["coverage"]["mean"],
        "coverage_target": held["conformal"]["coverage"]["mean"] if held else None,
        "answered_target": sets["target"]["answered"],
        "temperature": trust["temperature"],
        "transfer": transfers(findings) if findings.labelled else None,
    }


def _limits(findings: Findings) -> list[str]:
    limits = common_limits(findings)
    if not findings.labelled:
        limits.append(f"{findings.unscored}: accuracy on the target is unknown, and no gain is claimed.")
        limits.append(
            "The estimate without labels is no bound: on known pairs its interval held 85% (docs/benchmarks.md)."
        )
    limits.append(
        "The target is taken to have the source's classes: images of others are called one of these, and where some are"
        " missing, adapting may cost accuracy (docs/benchmarks.md). Class shares in the field may differ, too."
    )
    return limits


def _made_by(findings: Findings) -> list[str]:
    run = findings.runs[findings.choice["chosen"]["method"]]
    read = "; the labels of the target test split were read once, by the evaluation" if findings.read_labels else ""
    return [
        f"'dvc repro report@{findings.name}' makes this card and the model again from the raw images.",
        f"{len(findings.curves)} methods were trained with seeds {', '.join(map(str, run['seeds']))};"
        f" the model that answers stands at its last epoch, {run['epochs'][-1]}.",
        f"It was chosen without target labels{read}.",
        "Settings stand under 'Method'; the versions of data, code and packages are in the registry entry.",
    ]
