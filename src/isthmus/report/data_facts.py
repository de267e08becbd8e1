"""What the report says of the data: counts, quarantine, audit; of medical images never a part of a path."""

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.names import PRIVATE_KINDS
from isthmus.report.audit_facts import audit_facts, warnings
from isthmus.report.results import Findings

_MEASURES = {
    "proxy_a_distance": "Proxy A-distance, 0 to 2",
    "mmd2": "Squared MMD",
    "mmd2_error": "standard error of the MMD",
    "mmd_p_value": "p-value of the MMD",
    "sliced_wasserstein": "Sliced Wasserstein",
    "coral": "CORAL distance",
}
_TRANSFERABILITY = {"log_me": "LogME", "h_score_shrunk": "H-score, shrunk", "h_score": "H-score"}
_SHOWN_ABOVE = (
    "images",
    "groups",
    "splits",
    "classes",
    "bad_by_reason",
    "bad_by_domain",
    "shortcuts",
    "mask_pixels",
    "boxes",
)  # in tables of their own
_HALF = 0.5  # [share] of an image; a square of a photograph of 3 x 2 is two thirds of it
_MAX_VALUES = 12  # of one mapping, such as image sizes; more are only counted
_MAX_PATHS = 100  # quarantined files listed by name; the rest are counted


def cut_away(findings: Findings) -> list[str]:
    """Returns a warning for each domain of whose images less than half is prepared, as of long ones their middle.

    Nothing is said where that follows from what a file states of its scale (`spacing`, `gsd`).
    """
    scenario = findings.scenario.model_copy(update={"preprocess": findings.facts["preprocess"]})
    kind = scenario.kind_config("params.yaml: preprocess.").build()
    found = []
    for domain in scenario.domains:
        sizes = findings.manifest.loc[findings.manifest["domain"] == domain, ["height", "width"]].value_counts()
        height, width = map(int, sizes.index[0])  # the most frequent
        pixels = np.broadcast_to(np.uint8(0), (height, width, findings.facts["channels"]))
        try:
            top, left, bottom, right = kind.box(Image(pixels, "rgb"))
        except DataError:
            continue
        shown = (min(bottom, height) - max(top, 0)) * (min(right, width) - max(left, 0)) / (height * width)
        if shown < _HALF:
            found.append(
                f"Of images of {domain} ({height} x {width} pixels) {shown:.0%} is used, the middle: what lies outside"
                " is not seen in training nor in the answers. 'tiles' of the scenario use all of an image; so do"
                " 'preprocess.squash' (industrial) and 'preprocess.crop_mode: squash' (natural), which squeeze it."
            )
    return found


def data_warnings(findings: Findings) -> list[str]:
    """Returns what page and model card warn of first: what the audit found, and images of which little is used."""
    return [*warnings(findings.audit, findings.scenario.group), *cut_away(findings)]


def data_facts(findings: Findings) -> dict[str, Any]:
    """Returns counts by domain, split and source class, what was quarantined and why, and the audit's other numbers."""
    manifest, refused = findings.manifest, findings.facts["quarantine"]
    splits = [s for s in ("train", "val", "cal", "test") if s in set(manifest["split"])]
    counts = manifest.groupby(["domain", "split"]).size()
    classes = manifest.dropna(subset=["label"]).groupby(["domain", "label"]).size()
    # A path may hold a patient's name or number: of a medical scenario no part of it leaves this function.
    named = findings.scenario.kind not in PRIVATE_KINDS
    known = {*findings.scenario.domains, *findings.scenario.classes}
    reasons = Counter((entry["domain"], _short(entry, named, known)) for entry in findings.quarantine)
    files = [(entry["path"], entry["reason"]) for entry in findings.quarantine][:_MAX_PATHS] if named else []
    return {
        "splits": splits,
        "domains": [
            {
                "name": domain,
                "role": "target" if domain == findings.scenario.target else "source",
                "splits": [int(counts.get((domain, split), 0)) for split in splits],
                "classes": [int(classes.get((domain, k), 0)) for k in range(len(findings.facts["classes"]))],
                "groups": int(manifest.loc[manifest["domain"] == domain, "group"].nunique()),
                "copies": int((manifest.loc[manifest["domain"] == domain, "copies"] - 1).sum()),
            }
            for domain in findings.scenario.domains
        ],
        "bad": [{"domain": d, "reason": r, "count": n} for (d, r), n in sorted(reasons.items())],
        "refused": sorted(Counter(entry["reason"] for entry in refused).items()),
        "files": files,
        "unlisted": len(findings.quarantine) - len(files),
        "mask_pixels": _mask_shares(findings.audit.get("mask_pixels", {})),
        "boxes": findings.audit.get("boxes", {}),
        **audit_facts(findings.audit, findings.absent, findings.scored.unit),
        "audit": _numbers({name: part for name, part in findings.audit.items() if name not in _SHOWN_ABOVE}),
    }


def shift_facts(findings: Findings) -> dict[str, Any]:
    """Returns the measures as tiles (all sources against the control) and as a table of every comparison."""
    shift, target = findings.shift, findings.scenario.target
    pooled, control = shift["pairs"]["pooled"], shift["control"]
    rows = [(f"{domain} against {target}", values) for domain, values in shift["pairs"].items() if domain != "pooled"]
    if len(rows) > 1:
        rows.append((f"all sources against {target}", pooled))
    rows += [("control: two halves of the source", control), ("after standardising each domain", shift["zscored"])]
    measures = [name for name in _MEASURES if name in pooled]
    return {
        "advice": shift["advice"],
        "measures": [(name, _MEASURES[name]) for name in measures],
        "tiles": [(_MEASURES[m], pooled[m], control.get(m)) for m in measures if m != "mmd2_error"],
        "rows": [(name, [values.get(measure) for measure in measures]) for name, values in rows],
        "images": [(domain, counts["used"], counts["train"]) for domain, counts in sorted(shift["images"].items())],
        "variance": shift["map"]["variance"],
        "labels": shift["label_shift"],
        "backbone": shift["transferability"]
        | {"rows": [(label, shift["transferability"][name]) for name, label in _TRANSFERABILITY.items()]},
        "within": findings.truth.get("class_shift", {}),
        "leep": findings.truth.get("leep"),
    }


def _mask_shares(pixels: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    """Returns a row a source: annotated pixels, and the share of each class among them."""
    totals = {domain: sum(counts.values()) for domain, counts in pixels.items()}
    return [
        {"domain": d, "pixels": totals[d], "shares": [n / max(totals[d], 1) for n in counts.values()]}
        for d, counts in pixels.items()
    ]


def _short(entry: dict[str, Any], named: bool, known: set[str]) -> str:
    """Returns what a reason says before its details, so that equal reasons count together."""
    short = re.split(r"\s*[(:'\"]", entry["reason"])[0]
    parts = {part for name in PurePosixPath(entry["path"]).parts for part in (name, PurePosixPath(name).stem)} - known
    hidden = not named and any(part.lower() in short.lower() for part in parts)
    return "not shown: it names the file" if hidden or not short else short


def _numbers(tree: Any, name: str = "") -> list[tuple[str, int | float]]:
    """Returns the numbers of a nested mapping with their dotted names; texts, which may hold paths, are left out."""
    if isinstance(tree, dict):
        leaves = [leaf for key in sorted(tree) for leaf in _numbers(tree[key], f"{name}.{key}" if name else str(key))]
        flat = all(not isinstance(value, dict) for value in tree.values())
        return [(f"{name} (different values)", len(leaves))] if flat and len(leaves) > _MAX_VALUES else leaves
    return [(name, tree)] if isinstance(tree, int | float) and not isinstance(tree, bool) else []
