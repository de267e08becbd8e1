"""How much of what the audit finds a user accepts: each limit is off until it is set, and then stops the run."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.errors import DataError
from isthmus.data.audit.shortcut import ADVICE

_SHOWN = 20  # images in one message
_SKILL = "[share of the way from chance to always right] that file size, aspect ratio or the corners, each alone, may "


class Limits(Config):
    """What stops `ingest`; none: only reported. The share of broken files stands in `IngestConfig`."""

    max_class_shortcut: float | None = Field(
        None, ge=0, le=1, description=_SKILL + "predict the class of source images, by the low end of its interval"
    )
    max_domain_shortcut: float | None = Field(
        None, ge=0, le=1, description=_SKILL + "predict the domain; two devices nearly always differ in one of them"
    )
    saturated_above: float = Field(
        0.5, ge=0, lt=1, description="[share of pixels] at the top of the range, above which an image is saturated"
    )
    max_saturated_share: float | None = Field(None, ge=0, le=1, description="[share] of a domain's images")
    max_constant_share: float | None = Field(
        None, ge=0, le=1, description="[share] of a domain's images whose pixels are all the same"
    )
    max_two_labels: int | None = Field(
        None, ge=0, description="[image] of the source whose very bytes, or near-duplicates, have two labels"
    )
    max_imbalance: float | None = Field(
        None, ge=1, description="[ratio] images of a source's largest class for each one of its smallest"
    )
    every_class_in_every_source: bool = Field(
        False, description="whether each of several sources must have each class; all together always must"
    )


def check_limits(limits: Limits, audit: dict[str, Any], names: dict[str, str]) -> None:
    """Stops a run whose data pass a limit.

    Args:
        limits: those of the user.
        audit: as `ingest` writes it.
        names: image id -> path, for the lists; an image without one is named by its id.

    Raises:
        DataError: all limits that are passed, with the number, the limit and what to do.
    """
    problems = [
        *_pixels(limits, audit["pixels"], audit["images"], names),
        *_labels(limits, audit["labels"], audit["classes"], names),
        *_shortcuts(limits, audit["shortcuts"]),
    ]
    if problems:
        raise DataError("\n".join(problems) + "\nThen run 'dvc repro' again")


def _pixels(limits: Limits, found: dict[str, Any], images: dict[str, int], names: dict[str, str]) -> Iterator[str]:
    wrong = {
        "constant": ("all pixels are the same", limits.max_constant_share),
        "saturated": (
            f"more than {limits.saturated_above:.0%} of the pixels are saturated",
            limits.max_saturated_share,
        ),
    }
    for domain, facts in found.items():
        for what, (words, limit) in wrong.items():
            share = len(facts[what]) / images[domain]
            if limit is not None and share > limit:
                yield (
                    f"domain '{domain}': in {len(facts[what])} of {images[domain]} images {words} ({share:.1%});"
                    f" 'ingest.max_{what}_share' in params.yaml allows {limit:.1%}:\n{_listed(facts[what], names)}\n"
                    "Remove or replace them, or raise the limit"
                )


def _labels(limits: Limits, found: dict[str, Any], classes: dict[str, Any], names: dict[str, str]) -> Iterator[str]:
    two = [*found["two_labels"], *sorted({i for pair in found["near_two_labels"] for i in pair})]
    if limits.max_two_labels is not None and len(two) > limits.max_two_labels:
        yield (
            f"{len(two)} source images have two labels, by the same bytes or by a near-duplicate;"
            f" 'ingest.max_two_labels' in params.yaml allows {limits.max_two_labels}:\n{_listed(two, names)}\n"
            "Give each image one label, or raise the limit"
        )
    for domain, ratio in found["imbalance"].items():
        if limits.max_imbalance is not None and ratio > limits.max_imbalance:
            counts = ", ".join(f"{name} {sum(splits.values())}" for name, splits in classes[domain].items())
            yield (
                f"source '{domain}': its largest class has {ratio:g} times the images of its smallest ({counts});"
                f" 'ingest.max_imbalance' in params.yaml allows {limits.max_imbalance:g}. Add images to the"
                " smallest, or raise the limit"
            )
    for domain, missing in found["missing"].items():
        if limits.every_class_in_every_source and missing:
            yield (
                f"source '{domain}': no image of class {', '.join(missing)}, which"
                " 'ingest.every_class_in_every_source' in params.yaml asks for. Add images, or set it to false"
            )


def _listed(ids: list[str], names: dict[str, str]) -> str:
    lines = [f"  {names.get(i, i)}" for i in ids[:_SHOWN]]
    return "\n".join(lines + ([f"  ... and {len(ids) - _SHOWN} more"] if len(ids) > _SHOWN else []))


def _shortcuts(limits: Limits, found: dict[str, Any]) -> Iterator[str]:
    questions = [("the domain", found["domain"], "max_domain_shortcut", limits.max_domain_shortcut)]
    for domain, cues in found["class"].items():
        questions.append((f"the class in source '{domain}'", cues, "max_class_shortcut", limits.max_class_shortcut))
    for what, cues, key, limit in questions:
        for cue, told in cues.items():
            if limit is not None and told["found"] and told["skill_low"] > limit:
                yield (
                    f"{what} can be predicted from the {cue.replace('_', ' ')} alone: balanced accuracy"
                    f" {told['balanced_accuracy']:.2f} where chance is {told['chance']:.2f} (99.9% interval"
                    f" {told['low']:.2f} to {told['high']:.2f}): its low end is {told['skill_low']:.0%} of the way from"
                    f" chance to always right; 'ingest.{key}' in params.yaml allows {limit:.0%}. {ADVICE[cue]}."
                    " Or raise the limit"
                )
