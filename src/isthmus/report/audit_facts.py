"""What the report shows of `audit.json`: shares, pixels, labels and shortcuts, each with what to make of it."""

from typing import Any

from isthmus.data.audit.shortcut import ADVICE

HEAVY = 10.0  # [ratio] of a source's largest to its smallest class that the report points out


def audit_facts(audit: dict[str, Any], absent: list[str], unit: str) -> dict[str, Any]:
    """Returns rows of the report's tables; empty ones for an audit that lacks a part.

    Args:
        audit: `audit.json`.
        absent: classes that the target's test split does not hold; the only thing here that knows of its labels.
        unit: image, pixel or box: what has a class.
    """
    return {
        "shares": _shares(audit.get("shares", {})),
        "balance": _balance(audit.get("classes", {})),
        "labels": [*_label_notes(audit.get("labels")), *_target_notes(absent, unit)],
        "assumed": _assumed_notes(audit.get("assumed", {})),
        "pixels": _pixels(audit),
        "shortcuts": _shortcuts(audit.get("shortcuts", {"domain": {}, "class": {}})),
    }


def warnings(audit: dict[str, Any], group: str | None) -> list[str]:
    """Returns what makes the numbers of a report doubtful, which a reader must see first.

    Args:
        audit: `audit.json`.
        group: what the user calls a group, such as `patient`.
    """
    found = []
    if count := audit.get("groups_trained_and_tested", 0):
        what = f"'{group}' groups" if group else "groups"
        found.append(
            f"{count} {what} are trained on in the source and tested on in the target. The model has seen them with"
            " their labels, so the scores on the target are too high for new ones. Give each of them one split in the"
            " table's column 'split', in both domains the same, or leave that column empty, and run the scenario again."
        )
    return found


def _shares(shares: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"domain": d, "split": s, **row} for d, splits in shares.items() for s, row in splits.items()]


def _balance(classes: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns a row a source and split: what share of its images each class has."""
    rows = []
    for domain, counts in classes.items():
        for split in ("train", "val", "cal", "test"):
            here = [row.get(split, 0) for row in counts.values()]
            if total := sum(here):
                rows.append({"domain": domain, "split": split, "shares": [n / total for n in here]})
    return rows


def _label_notes(labels: dict[str, Any] | None) -> list[str]:
    if labels is None:
        return []
    notes = [
        f"{domain} has no image of class {', '.join(missing)}: what is learnt of it comes from other sources alone."
        for domain, missing in labels["missing"].items()
        if missing
    ]
    notes += [
        f"{domain} is heavily imbalanced: its largest class has {ratio:.1f} times the images of its smallest."
        " Look at recall by class; models: class_weights: balanced counts all classes alike"
        " (limit: ingest.max_imbalance)."
        for domain, ratio in labels["imbalance"].items()
        if ratio >= HEAVY
    ]
    if count := len(labels["two_labels"]):
        notes.append(
            f"{count} source images lie under two classes with the very same bytes. They are in quarantine and nothing"
            " learns from them: give each picture one label (limit: ingest.max_two_labels)."
        )
    if count := len(labels["near_two_labels"]):
        notes.append(
            f"{count} pairs of source images look the same and have two labels (audit.json: labels.near_two_labels)."
            " They are trained on: one label of each pair is wrong (limit: ingest.max_two_labels)."
        )
    return notes


def _target_notes(absent: list[str], unit: str) -> list[str]:
    score = {"image": "recall", "pixel": "IoU", "box": "AP"}[unit]
    note = f"The target's test split has no {unit} of class {', '.join(absent)}: its {score} is not known."
    return [note] if absent else []


def _assumed_notes(assumed: dict[str, dict[str, int]]) -> list[str]:
    return [
        f"{', '.join(f'{files} files of {domain}' for domain, files in domains.items())}: {what}."
        for what, domains in assumed.items()
    ]


def _pixels(audit: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "domain": domain,
            "sizes": _few(audit["sizes"][domain], "sizes"),
            "dtypes": _few(audit["dtypes"][domain], "dtypes"),
            **facts,
        }
        for domain, facts in audit.get("pixels", {}).items()
    ]


def _few(counts: dict[str, int], what: str) -> str:
    """Returns the only value, or how many there are and the most frequent one."""
    most = max(counts, key=lambda value: (counts[value], value))
    return most if len(counts) == 1 else f"{len(counts)} {what}, most often {most}"


def _shortcuts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns one row a question and cue, with what a person should make of it."""
    asked = [("domain", found["domain"]), *((f"class in {d}", cues) for d, cues in found["class"].items())]
    return [
        {"question": question, "cue": cue, **told, "meaning": _meaning(question, cue, told["found"])}
        for question, cues in asked
        for cue, told in cues.items()
    ]


def _meaning(question: str, cue: str, found: bool | None) -> str:
    if found is None:
        return "cannot tell: fewer than two groups"
    if not found:
        return "no shortcut"
    return "expected between two devices" if question == "domain" else ADVICE[cue]
