"""Each rule that reads the models' answers: what it passes, what it refuses in which words, what a person decides."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from isthmus.core import plugins
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.errors import DataError
from isthmus.gates import Evidence, Reason
from isthmus.gates.comparison import paired_difference
from isthmus.gates.scored import TARGET, Answers
from tests.gates.evidence import CLASSES, evidence, metrics, scored, without_labels

LOCAL = {"place": "", "found": False, "missing": []}
THERE = {"place": "store", "found": True, "missing": []}


def say(rule: str, given: Evidence, **options: object) -> list[Reason]:
    return plugins.load("gates.rules", rule).Config(**options).reasons(given)


def _elsewhere(answers: Answers) -> Answers:
    """Misses other images of the same classes."""
    shown = answers.probabilities[np.r_[3 : len(answers.probabilities), 0:3]]
    return replace(answers, probabilities=shown)


def refused(rule: str, given: Evidence, **options: object) -> str:
    return "; ".join(reason.text for reason in say(rule, given, **options) if reason.verdict == "refuse")


def test_a_candidate_worse_than_the_champion_by_the_margin_is_refused():
    worse = evidence(asked=scored(candidate={"right": 0.6}, champion={"right": 0.9}))

    (found,) = say("not_worse_than_champion", worse)

    assert found.verdict == "refuse"
    assert found.number == pytest.approx(-0.3, abs=0.1)
    assert "candidate minus champion 1 is -0." in found.text
    assert "below" in found.text


def test_the_paired_difference_is_that_of_a_slow_count():
    asked = scored(candidate={"right": 0.6}, champion={"right": 0.9})
    rows = asked.labelled(TARGET)
    slow = [balanced_accuracy(a.predicted(CLASSES)[rows], asked.label[rows]) for a in (asked.candidate, asked.champion)]

    found = paired_difference(asked, asked.champion, TARGET, 500)

    assert found.mean == pytest.approx(slow[0] - slow[1])
    assert found.low < found.mean < found.high
    assert found == paired_difference(asked, asked.champion, TARGET, 500)


def test_a_model_minus_itself_is_zero_with_no_width():
    asked = scored()

    found = paired_difference(asked, asked.candidate, TARGET, 200)

    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_errors_that_come_in_groups_widen_the_interval():
    asked = scored(candidate={"right": 1.0}, champion={"right": 1.0})
    shown = asked.candidate.probabilities.copy()
    shown[60:80] = np.roll(shown[60:80], 1, axis=1)  # a third of the target's images: one lot of three
    mine = replace(asked, candidate=replace(asked.candidate, probabilities=shown))
    lots = replace(mine, images=mine.images.assign(group=[str(place // 20) for place in range(120)]))
    single = replace(mine, images=mine.images.assign(group=mine.images["image_id"]))

    wide, narrow = (paired_difference(one, one.champion, TARGET, 500) for one in (lots, single))

    assert wide.mean == narrow.mean
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_first_promotion_says_so_and_unknown_labels_or_a_silent_champion_need_a_person():
    (first,) = say("not_worse_than_champion", evidence())
    (blind,) = say("not_worse_than_champion", evidence(asked=scored(champion={}, target_labels=False)))
    (silent,) = say("not_worse_than_champion", evidence(asked=scored(champion={"failure": "no module"})))
    unsure = evidence(asked=scored(candidate={"right": 0.8, "seed": 2}, champion={"right": 0.8, "seed": 2}))
    unsure = replace(unsure, scored=replace(unsure.answers, champion=_elsewhere(unsure.answers.champion)))
    (open_question,) = say("not_worse_than_champion", unsure, sure=True, margin=0.02)

    assert (first.verdict, blind.verdict, silent.verdict) == ("pass", "person", "person")
    assert "no champion yet: a first promotion" in first.text
    assert "champion 1 did not answer (no module)" in silent.text
    assert open_question.verdict == "person"
    assert "too few images to exclude a loss of 0.020" in open_question.text


def test_forgetting_the_source_is_refused_against_source_only_and_against_the_champion():
    assert "source-only 0.960: -0.460" in refused("source_kept", evidence(kept=0.5))
    forgot = evidence(asked=scored(candidate={"right": 0.5}, champion={"right": 0.9}))
    assert "on the source, candidate minus champion 1 is -0." in refused("source_kept", forgot)
    unknown = replace(evidence(), metrics={})
    assert [reason.verdict for reason in say("source_kept", unknown)] == ["person"]


def test_labels_of_good_images_alone_are_not_called_none():
    given = without_labels()
    given.truth["anomaly"] = {"good": 40, "defective": 0}

    for rule in ("absolute_floor", "no_negative_transfer"):
        (reason,) = say(rule, given)

        assert reason.verdict == "person"
        assert reason.text.startswith(
            "40 good and 0 defective target test images have labels, and a score needs both kinds: whether coral"
        )


def test_of_a_detector_of_defects_the_balanced_accuracy_on_the_source_is_compared():
    given = evidence()
    given.truth["metric"] = "auroc"  # which `evaluate` measures on the target alone

    (reason,) = say("source_kept", given)

    assert (reason.verdict, reason.text) == ("pass", "source test balanced accuracy 0.950, source-only 0.960: -0.010")


def test_one_class_or_one_group_below_its_floor_is_refused_by_name_whatever_the_mean():
    asked = scored(candidate={"right": 1.0})
    shown = asked.candidate.probabilities.copy()
    dents = (np.arange(len(shown)) % 3 == 1) & (asked.images["role"] == TARGET).to_numpy()
    shown[dents] = [0.9, 0.05, 0.05]
    blind = replace(asked, candidate=replace(asked.candidate, probabilities=shown))
    lost = asked.candidate.probabilities.copy()
    lost[-4:] = np.roll(lost[-4:], 1, axis=1)
    group = replace(asked, candidate=replace(asked.candidate, probabilities=lost))

    assert refused("per_class_floor", evidence(asked=blind)) == (
        "target: recall of class 'dent' 0.000 is below the floor 0.200"
    )
    name = asked.images["group"].iloc[-1]
    assert f"accuracy of group '{name}' 0.000" in refused("per_class_floor", evidence(asked=group), min_images=4)
    assert refused("per_class_floor", evidence(asked=group)) == ""  # four images are too few to be judged


def test_many_groups_of_few_images_are_counted_without_a_mask_for_each():
    answers, times = scored(), 50
    images = pd.concat([answers.images] * times, ignore_index=True)
    images["group"] = [f"{place:016x}" for place in range(len(images))]
    images.loc[images.index[-12:], "group"] = "z" * 16
    shown = np.tile(answers.candidate.probabilities, (times, 1))
    shown[-12:] = np.roll(shown[-12:], 1, axis=1)
    answers = replace(answers, images=images, candidate=replace(answers.candidate, probabilities=shown))
    given = evidence(asked=answers)

    tracemalloc.start()
    found = refused("per_class_floor", given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert f"accuracy of group '{'z' * 16}' 0.000 is below the floor" in found
    assert found.count("below") == 1
    assert peak < 4e6  # masks of 3,000 groups would be 9e6 bytes


def test_classes_with_too_few_images_leave_it_to_a_person():
    found = say("per_class_floor", evidence(), min_images=1000)

    assert {reason.verdict for reason in found} == {"person"}
    assert "no class of the target has 1000 labelled images" in found[0].text


def test_the_calibration_error_is_that_of_a_hand_count_and_chance_on_few_images_is_no_fault():
    # all answers have one confidence, so there is one bin: |share that is right - confidence|
    asked = scored(candidate={"right": 0.5, "confidence": 0.9})
    rows = asked.labelled(TARGET)
    by_hand = abs(asked.right(asked.candidate)[rows].mean() - 0.9)
    one = rows[asked.right(asked.candidate)[rows]][0]
    few = replace(asked, images=asked.images.assign(label=asked.images["label"].where(asked.images.index == one)))

    found = say("calibration", evidence(asked=asked))[0]
    allowed = say("calibration", evidence(asked=few), max_error=0.0)[0]

    assert found.number == pytest.approx(by_hand)
    assert (found.verdict, found.threshold) == ("refuse", 0.2)
    assert (allowed.verdict, "on 1 images (by chance 0." in allowed.text) == ("pass", True)


def test_confidence_far_from_truth_is_refused_with_its_number():
    sure_and_wrong = evidence(asked=scored(candidate={"right": 0.3, "confidence": 0.99}))

    assert "target: expected calibration error 0." in refused("calibration", sure_and_wrong)


@pytest.mark.parametrize(
    ("candidate", "champion", "options", "text"),
    [
        ({"seconds": 3.0}, None, {}, "3.000 s an image, allowed 2.000 s"),
        ({"seconds": 0.2}, {"seconds": 0.1}, {}, "takes 2.00 times as long as champion 1, allowed 1.5"),
        ({"size_bytes": 2**31}, None, {}, "2048.0 MiB, allowed 1000.0 MiB"),
    ],
)
def test_a_slow_or_large_model_is_refused_by_what_it_exceeds(candidate, champion, options, text):
    assert refused("within_budget", evidence(asked=scored(candidate=candidate, champion=champion)), **options) == text


def test_another_class_order_is_refused_and_so_are_other_classes():
    turned = evidence(asked=scored(champion={"classes": ["dent", "crack", "good"]}))
    other = evidence(asked=scored(champion={"classes": ["crack", "dent", "stain"]}))
    mine = evidence(asked=scored(candidate={"classes": ["good", "dent", "crack"]}))

    assert "in another order than those of champion 1: crack, dent, good against dent, crack, good" in refused(
        "compatible", turned
    )
    assert "other than those of champion 1" in refused("compatible", other)
    assert "in another order than those of params.yaml" in refused("compatible", mine)
    assert "person" in {reason.verdict for reason in say("compatible", other, new_classes=True)}
    assert "in another order" in refused("compatible", turned, new_classes=True)


def test_a_changed_signature_is_refused():
    asked = scored(candidate={"inputs": {"path": "string"}}, champion={})

    assert "takes path (string) where champion 1 takes image (binary)" in refused("compatible", evidence(asked=asked))


def test_a_model_that_does_not_load_is_refused_and_no_rule_guesses_about_it():
    empty = {"failure": "ModuleNotFoundError: timm", "classes": CLASSES, "latency": {}, "sha256": [], "image_id": []}
    asked = replace(scored(), candidate=replace(scored().candidate, **empty, probabilities=np.zeros((0, 0))))

    assert "process of its own: ModuleNotFoundError: timm" in refused("loads_alone", evidence(asked=asked))
    for rule in ("not_worse_than_champion", "source_kept", "per_class_floor", "calibration", "within_budget"):
        assert refused(rule, evidence(asked=asked)) == ("not measured: the candidate did not answer (see loads_alone)")


def test_code_of_another_copy_or_other_answers_than_the_pipelines_are_refused():
    assert "another copy of the code" in refused("loads_alone", evidence(asked=scored(candidate={"bundled": False})))
    asked = scored()
    other = replace(asked, images=asked.images.assign(predicted=(asked.images["predicted"] + 1) % 3))
    assert "answers as the pipeline did on 0.0%" in refused("loads_alone", evidence(asked=other))


def test_data_or_snapshot_missing_in_a_configured_remote_are_refused_each_with_its_next_step():
    def with_origin(data, snapshot):
        return evidence(asked=scored(origin={"data": data, "snapshot": snapshot}))

    lost = {"place": "store", "found": False, "missing": ["data/raw/demo"]}
    assert refused("retrievable", with_origin(lost, THERE)) == (
        "data: not in the remote 'store': data/raw/demo. Run 'dvc push' and 'dvc push data/raw/NAME.dvc', score again"
    )
    lost = {"place": "origin", "found": False, "missing": ["commit 0123"]}
    assert refused("retrievable", with_origin(THERE, lost)) == (
        "snapshot: not in the remote 'origin': commit 0123."
        " Run 'git push origin refs/isthmus/*:refs/isthmus/*', score again"
    )
    assert refused("retrievable", with_origin(THERE, THERE)) == ""
    assert refused("retrievable", with_origin(LOCAL, LOCAL)) == ""
    assert "local only" in say("retrievable", with_origin(LOCAL, LOCAL))[0].text
    assert "local only" in refused("retrievable", with_origin(LOCAL, LOCAL), local_only=False)


def test_scored_on_other_data_is_refused_for_the_set_and_for_what_a_model_read():
    other_set = evidence(asked=scored(current_md5="other"))
    other_bytes = evidence(asked=scored(champion={"sha256": ["0" * 64] * 120}))
    trained_on = evidence(asked=scored(seen={"candidate": 0, "champion": 2}))

    assert "scored on other data: set md5, the results are about other" in refused("same_data", other_set)
    assert "version 1 read other images than those of the set: scored on other data" in refused(
        "same_data", other_bytes
    )
    assert refused("same_data", trained_on) == "the champion was trained on 2 of the 120 images it is evaluated on"


def test_the_runner_up_of_a_refused_candidate_is_refused_and_a_worn_sample_needs_a_person():
    asked = {"choices": 3, "labelled": 60, "runner_up_of": "4"}
    worn = {"choices": 21, "labelled": 60, "runner_up_of": ""}

    assert "comes from the pool of version 4, which was refused" in refused(
        "acceptance_once", evidence(asked=scored(acceptance=asked))
    )
    (found,) = say("acceptance_once", evidence(asked=scored(acceptance=worn)))
    assert (found.verdict, found.number) == ("person", 21)


def test_without_target_labels_nothing_is_refused_and_a_person_must_decide():
    found = [reason for name in plugins.names("gates.rules") for reason in say(name, without_labels())]

    assert {reason.verdict for reason in found} == {"pass", "person"}


def test_a_rule_that_needs_answers_says_so_where_no_model_was_asked():
    with pytest.raises(DataError, match=r"needs the models' own predictions. Run 'isthmus score' first"):
        say("calibration", replace(evidence(), scored=None))
    assert metrics(0.9)["source_test_balanced_accuracy"] == 0.9
