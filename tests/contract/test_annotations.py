from pathlib import Path

import pytest

from isthmus.core import plugins
from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.data.tasks import AnnotationConfig
from tests.raw_folders import scenario

NAMES = plugins.names("data.tasks")


def build(name: str, **options: object) -> AnnotationConfig:
    config: AnnotationConfig = validated(plugins.load("data.tasks", name).Config, options, "annotations.")
    return config


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_of_a_task_is_refused_in_a_scenario(name: str) -> None:
    with pytest.raises(ValueError, match=r"annotations\.valeus: Extra inputs"):
        scenario(task=name, annotations={"valeus": [1]})


@pytest.mark.parametrize("name", NAMES)
def test_the_answers_of_a_task_lie_in_columns_of_a_table(name: str) -> None:
    answers = build(name)

    assert set(answers.columns) <= {"label", "mask", "image_b", "boxes"}
    assert answers.columns
    assert answers.labelled + answers.masks + answers.boxes == 1
    assert answers.problem(["one", "two"]) == ""


@pytest.mark.parametrize("name", [name for name in NAMES if not build(name).reads_masks])
def test_a_task_without_files_beside_its_images_reads_none(name: str) -> None:
    with pytest.raises(TypeError, match="a task without files beside its images reads none"):
        build(name).read(Path("x.png"), "", ["one", "two"])


@pytest.mark.parametrize("name", [name for name in NAMES if build(name).masks])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": [0, 1, 2]}, r"annotations\.values must have one value for each of crack, good \(got \[0, 1, 2\]\)"),
        ({"values": [7, 7]}, r"values: two classes have one value \(got \[7, 7\]\)"),
        ({"values": [0, 255]}, r"annotations\.ignore: 255 is the value of 'good' too\. Set 'ignore: null' or another"),
        ({"ignore": 0}, r"annotations\.ignore: 0 is the value of 'crack' too"),
    ],
)
def test_values_of_masks_that_contradict_the_classes_are_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scenario(task=name, annotations=options)


@pytest.mark.parametrize("name", [name for name in NAMES if build(name).masks])
def test_more_classes_than_a_mask_can_hold_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="classes: 256 of them; masks have at most 255"):
        scenario(task=name, classes=[f"c{k}" for k in range(256)])


def test_an_unknown_task_is_refused_with_a_hint() -> None:
    with pytest.raises(
        ValueError, match=r"no task 'segmentaton'\. Did you mean 'segmentation'\? There are: anomaly, change"
    ):
        scenario(task="segmentaton")


def test_options_of_masks_are_no_options_of_classes() -> None:
    with pytest.raises(ConfigError, match=r"annotations\.values"):
        build("classification", values=[0, 1])
