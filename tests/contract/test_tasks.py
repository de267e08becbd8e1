"""Contract of tasks: each has its part in every folder of plugins, and all that asks for one finds it."""

import pytest

from isthmus.adapt import Method
from isthmus.core import plugins
from isthmus.data.tasks import AnnotationConfig
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.tasks import TaskEvaluation
from isthmus.registry.model.answers import TaskAnswers
from isthmus.report.tasks import TaskReport

FOLDERS = ("data.tasks", "evaluation.guards", "evaluation.tasks", "report.tasks", "registry.model.answers")
TASKS = plugins.names("data.tasks")


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_part_in_every_folder(task: str) -> None:
    annotations, guards, evaluation, report, answers = (plugins.load(folder, task) for folder in FOLDERS)

    assert issubclass(annotations.Config, AnnotationConfig) and annotations.Config()
    assert isinstance(guards.Guards(), TaskGuards) and isinstance(answers.Answers(), TaskAnswers)
    assert isinstance(evaluation.Evaluation(), TaskEvaluation) and isinstance(report.Report(), TaskReport)
    assert all(module.__doc__ for module in (annotations, guards, evaluation, report, answers))
    assert answers.Answers.outputs(["good", "bad"]) and answers.Answers.inputs[0] == "image"


@pytest.mark.parametrize("task", TASKS)
def test_the_methods_that_answer_where_none_are_named_exist(task: str) -> None:
    average = plugins.load("evaluation.guards", task).Guards.average

    assert average and all(issubclass(plugins.load("adapt.methods", name).Adaptation, Method) for name in average)


def test_no_folder_has_a_task_that_another_lacks() -> None:
    assert {folder: plugins.names(folder) for folder in FOLDERS} == dict.fromkeys(FOLDERS, TASKS)
