"""What the numbers say, in sentences: shared by the report's first screen and the model card."""

from dataclasses import dataclass, replace
from typing import Literal

from isthmus.evaluation.scoring.comparison import FEW_GROUPS
from isthmus.evaluation.selection.choice import ENSEMBLE, SOURCE_ONLY
from isthmus.evaluation.shift.distances import none_can_be_shown
from isthmus.report.formatting import points, points_with_interval, share, share_with_interval
from isthmus.report.measured import learned_sentence, measured_sentence
from isthmus.report.results import Findings

LITTLE = 0.2  # [share] of balanced accuracy above guessing: an interval that ends below shows no useful model


@dataclass(frozen=True)
class Step:
    """A next step: a command and what it does, or only words where `command` is empty."""

    command: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    Attributes:
        tone: `good` better than source-only, `bad` worse, `open` neither is shown.
        label: two or three words for the badge.
        headline: one sentence.
        detail: the numbers behind it, one or two sentences.
    """

    tone: Literal["good", "bad", "open"]
    label: str
    headline: str
    detail: str
    steps: list[Step]


def judge(findings: Findings) -> Verdict:
    """Returns the verdict on the chosen model, with what a few labels did for it and say of it, where there are any."""
    found = _judge(findings)
    sentences = (found.detail, learned_sentence(findings), measured_sentence(findings))
    return replace(found, detail=" ".join(sentence for sentence in sentences if sentence))


def _judge(findings: Findings) -> Verdict:
    """Returns what is plainly wrong first, then what labels or estimates say."""
    if refusal := _refused(findings):
        return refusal
    if not findings.labelled:
        return _without_labels(findings)
    method = findings.choice["chosen"]["method"]
    truth = findings.truth["methods"][method]
    score, scored = truth[findings.scored.metric], _scored_sentence(findings)
    guess = guessing(findings)
    if score["low"] <= guess.score:
        return _near_guessing(findings, score, guess, scored)
    if findings.truth["groups"] < FEW_GROUPS:
        return _few_groups(findings, scored)
    if _needless(findings):
        return _not_needed(findings, scored)
    if method == SOURCE_ONLY:
        headline, label = _kept(findings)
        return Verdict("open", label, headline, scored, _kept_steps(findings))
    gain = truth["minus_source_only"]
    detail = f"{scored} Against source-only that is {points_with_interval(gain)}."
    if gain["low"] > 0:
        headline = f"{method} is better than source-only by {points(gain['mean'], sign=False)}."
        return Verdict("good", "Better than source-only", headline, detail, _steps(findings.name))
    if gain["high"] < 0:
        headline = f"{method} is worse than source-only by {points(-gain['mean'], sign=False)}: use source-only."
        return Verdict("bad", "Worse than source-only", headline, detail, _bad_steps(findings.name))
    headline = f"{method} is not clearly different from source-only."
    return Verdict("open", "No clear difference", headline, detail, _steps(findings.name))


@dataclass(frozen=True)
class Guess:
    """What an answer without looking scores on the target.

    Attributes:
        sentence: that in words, and `name` of such an answer.
        little: above guessing; an interval that ends below shows no useful model.
    """

    score: float
    name: str
    sentence: str
    little: float


def guessing(findings: Findings) -> Guess:
    """Returns the score of guessing; for masks that of the most frequent class everywhere, which is larger.

    Of K classes in the truth the one with share p of the pixels then has the IoU p, and the others have 0. Boxes at
    random score next to nothing.
    """
    if findings.scored.unit == "image":
        chance = 1 / len(findings.facts["classes"])
        return Guess(chance, "guessing", f"Guessing would score {share(chance)}.", LITTLE)
    if findings.scored.unit == "box":
        return Guess(0.0, "guessing", "Guessing would score next to nothing.", LITTLE)
    rows = findings.truth["methods"][findings.truth["chosen"]]["per_class"]
    shares = {name: row["true_share"] for name, row in rows.items() if row["true_share"]}
    most = max(shares, key=lambda name: shares[name])
    score = shares[most] / len(shares)
    name = f"marking every pixel as {most}"
    return Guess(score, name, f"M{name[1:]} would score {share(score)}.", LITTLE * (1 - score))


def estimate_sentence(findings: Findings) -> str:
    """Returns what is told of the target's accuracy without its labels, or why nothing is."""
    estimate = findings.trust["estimate"]
    if "why" in estimate:
        return f"{estimate['why'][:1].upper()}{estimate['why'][1:]}."
    if estimate["accuracy"] is None:
        return f"The accuracy on the target cannot be estimated without labels: {'; '.join(estimate['cannot_tell'])}."
    return (
        f"Estimated accuracy on the target without labels: {share(estimate['accuracy'])}"
        f" (interval {share(estimate['low'])} to {share(estimate['high'])})."
    )


def _scored_sentence(findings: Findings) -> str:
    score = findings.truth["methods"][findings.choice["chosen"]["method"]][findings.scored.metric]
    return f"On the labelled target test split it scores {share_with_interval(score, findings.scored.name)}."


def _few_groups(findings: Findings, scored: str) -> Verdict:
    method, count = findings.choice["chosen"]["method"], findings.truth["groups"]
    groups = (
        "The labelled target test images are of one group: that is"
        if count == 1
        else (f"The labelled target test images are of {count} groups:")
    )
    gain = findings.truth["methods"][method]["minus_source_only"]
    against = "" if method == SOURCE_ONLY else f" Against source-only that is {points_with_interval(gain)}."
    detail = f"{scored}{against} Images of a group (patient, lot, scene) are alike, so these intervals are too narrow."
    steps = [Step("", "Label target images of more groups before anything is promoted."), *_steps(findings.name)[:2]]
    return Verdict("open", "Too few groups", f"{groups} too few to tell how good {method} is.", detail, steps)


def _near_guessing(findings: Findings, score: dict[str, float], guess: Guess, scored: str) -> Verdict:
    """Returns the verdict where the interval holds chance: no better than guessing only where few points are left."""
    method, count = findings.choice["chosen"]["method"], findings.truth["count"]
    detail = f"{scored} {guess.sentence}"
    if findings.scored.unit != "image" and method != SOURCE_ONLY:
        gain = findings.truth["methods"][method]["minus_source_only"]
        detail += f" Against source-only it is {points_with_interval(gain)}."
    if score["high"] <= guess.score + guess.little:
        headline = f"{method} is no better than {guess.name} on the target."
        return Verdict("bad", "No better than guessing", headline, detail, _foreign_steps(findings.name))
    headline = f"{count} labelled target test images are too few to tell whether {method} is better than {guess.name}."
    steps = [Step("", "Label more target images before anything is promoted."), *_steps(findings.name)[:2]]
    return Verdict("open", "Too few labels", headline, detail, steps)


def _refused(findings: Findings) -> Verdict | None:
    alarms, method, name = findings.trust["alarms"], findings.choice["chosen"]["method"], findings.name
    if not alarms["source_learned"]:
        return Verdict(
            "bad",
            "Source not learned",
            f"{method} has not learned the source.",
            f"On source images that it was not trained on it {findings.scored.not_learned}. Labels that do not belong"
            " to their images look like this.",
            [
                Step(
                    "", "Do not promote this model. Check the labels of the source: folders, table, order of classes."
                ),
                Step(f"dvc repro report@{name}", "runs the pipeline again once they are corrected"),
            ],
        )
    if alarms["target_collapsed"]:
        measured = findings.labelled and findings.scored.unit != "image"  # nothing is estimated of masks and boxes
        told = _scored_sentence(findings) if measured else estimate_sentence(findings)
        return Verdict(
            "bad",
            "Collapsed on the target",
            f"{method} {findings.scored.collapsed}.",
            f"{findings.scored.collapse}, and no other method was left. {told}",
            [
                Step("", f"Do not promote this model: {findings.scored.worth}."),
                Step(
                    "", "Look at 'The two domains' below: is the target the same kind of image, with the same classes?"
                ),
                _gate(name, "refuses it where target labels show it, else asks for a person"),
            ],
        )
    return None


def _needless(findings: Findings) -> bool:
    if not _no_shift(findings):
        return False
    method = findings.choice["chosen"]["method"]
    return method == SOURCE_ONLY or findings.truth["methods"][method]["transfer"] == "no difference shown"


def _no_shift(findings: Findings) -> bool:
    return not findings.trust["alarms"]["shift_found"] and not none_can_be_shown(findings.shift["pairs"]["pooled"])


def _not_needed(findings: Findings, detail: str) -> Verdict:
    headline = "Adaptation is not needed: no shift was found between the domains."
    steps = [
        Step("", "Use the model trained on the source alone; nothing is gained by a more complicated one."),
        Step(f"isthmus publish {findings.name}", "puts the chosen model into the registry as candidate"),
        _gate(findings.name, "decides yes, no, or a person must decide, with reasons"),
    ]
    return Verdict("open", "No shift found", headline, detail, steps)


def _gate(name: str, says: str) -> Step:
    return Step(f"isthmus score {name} && isthmus gate {name}", says)


def _foreign_steps(name: str) -> list[Step]:
    return [
        Step("", "Do not promote this model. Is the target the same task, with the same classes under the same names?"),
        Step("", "Look at 'The two domains' and at the scores per class below."),
        _gate(name, "refuses it and says why (exit 3)"),
    ]


def _without_labels(findings: Findings) -> Verdict:
    method = findings.choice["chosen"]["method"]
    unknown = ""  # where labels of random images measured it, `judge` adds what they say
    if "measured" not in findings.truth:
        what = "accuracy" if findings.scored.unit == "image" else "score"
        estimated = f"{estimate_sentence(findings)} {findings.unscored}: the true {what} is not known"
        unknown = (
            f"{_one_kind(findings) or estimated}, nor whether this is better than source-only. No gain is claimed."
        )
    if _no_shift(findings):
        return _not_needed(findings, unknown)
    if method == SOURCE_ONLY:
        headline, label = _kept(findings)
        return Verdict("open", label, headline, unknown, _kept_steps(findings))
    answer = method
    if method == ENSEMBLE:
        names = list(findings.choice["ensemble"])
        answer = names[0] if len(names) == 1 else f"The mean of {' and '.join(names)}"
    headline, label = f"{answer} was chosen without target labels.", "Chosen without labels"
    if count := findings.target_labels:
        headline, label = f"{answer} answers, trained with {count} labelled target images.", "Trained with a few labels"
    steps = [
        _publish(findings.name, "model"),
        _gate(findings.name, f"asks for a person's decision (exit 4): {_lacking(findings)}"),
        *([] if "measured" in findings.truth else [_label_step(findings)]),
    ]
    return Verdict("open", label, headline, unknown, steps)


def _one_kind(findings: Findings) -> str:
    """Returns what labels of good images alone, or of defects alone, say of a detector; empty where there are none."""
    if "anomaly" not in findings.truth:
        return ""
    found, method = findings.truth["anomaly"], findings.choice["chosen"]["method"]
    rates, good = found["methods"][method], found["good"]
    if good:
        rate = share_with_interval(rates["false_alarm_rate"], "of them raise an alarm")
        return f"All {good} labelled target test images are good: {rate}. Whether defects are found is not known"
    rate = share_with_interval(rates["found"], "of them raise an alarm")
    known = f"All {found['defective']} labelled target test images are defective: {rate}."
    return f"{known} How often good ones raise an alarm is not known"


def _publish(name: str, what: str) -> Step:
    return Step(f"isthmus publish {name}", f"registers the {what} as candidate, unless 'isthmus run' has done so")


def _lacking(findings: Findings) -> str:
    if "measured" in findings.truth:
        return "labels of random images measure the accuracy, and the other rules need labels of target test images"
    return f"{findings.unscored[:1].lower()}{findings.unscored[1:]}"


def _label_step(findings: Findings) -> Step:
    if "anomaly" in findings.truth:
        lacking = "defects" if findings.truth["anomaly"]["good"] else "good parts"
        return Step("", f"Add labelled target images of {lacking}, so that the score can be measured.")
    if findings.scored.unit == "box":
        return Step("", "Draw boxes in a few target images of the test split, so that the score can be measured.")
    if findings.scored.unit == "pixel":
        return Step("", "Draw masks of a few target images of the test split, so that the score can be measured.")
    text = (
        "lists a few target images to label; with 20 labels of random ones the accuracy is known within 20 points, and"
        " the next run trains with the others"
    )
    return Step(f"isthmus label {findings.name}", text)


def _kept(findings: Findings) -> tuple[str, str]:
    if len(findings.choice["epochs"]) == 1:
        return "Source-only is all there is: no adapted method was trained.", "Nothing to choose from"
    if findings.choice["chosen"]["fallback"]:
        return "Source-only is kept: no adapted model passed the guards.", "Fallback to source-only"
    return "Source-only is used, as select.average says.", "Source-only"


def _steps(name: str) -> list[Step]:
    return [
        _publish(name, "model"),
        _gate(name, "decides yes, no, or a person must decide, with reasons"),
        Step(f"isthmus promote {name}", "makes it the champion, if the gate said yes"),
    ]


def _bad_steps(name: str) -> list[Step]:
    return [
        Step("", "Do not promote this model. Use source-only: set select.average: [source_only] in params.yaml, then"),
        Step(f"dvc repro report@{name} && isthmus publish {name}", "puts source-only into the registry as candidate"),
        _gate(name, "decides on it"),
    ]


def _kept_steps(findings: Findings) -> list[Step]:
    return [
        Step("", "Read 'Why this choice' below: it has the guards' reasons for each method."),
        _publish(findings.name, "source-only model"),
        _gate(findings.name, "decides yes, no, or a person must decide, with reasons"),
    ]
