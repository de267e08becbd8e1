"""A sixth task, a number an image, in five files of a project's own: nothing else of the package knows of it."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from isthmus.core import plugins
from isthmus.core.files import read_json
from isthmus.plugin_checks import check_plugins
from tests.mask_project import SIDE, build_project, run_stages

STEPS = ["0", "10", "20"]
FILES = {
    "data/tasks": '''"""A number an image, in steps: the name of its folder."""
from typing import ClassVar
from isthmus.data.tasks import AnnotationConfig
class Config(AnnotationConfig):
    """No options."""
    labelled: ClassVar[bool] = True
    def problem(self, classes):
        """Returns what does not fit these classes."""
        return "" if all(name.isdigit() for name in classes) else "classes: all must be numbers"
''',
    "evaluation/guards": '''"""As of classes."""
from isthmus.evaluation.guards import classification
class Guards(classification.Guards):
    """As of classes."""
''',
    "evaluation/tasks": '''"""How far numbers are from the true ones."""
import numpy as np
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.tasks import classification
class Evaluation(classification.Evaluation):
    """Adds the mean absolute error."""
    def scored(self, body, compared):
        """Returns the body with the error of each method."""
        inputs, made, runs, labels, groups, rows = compared
        steps = np.array([float(name) for name in inputs.scenario.classes])
        found = {m: softmax(run.logits(run.facts.seeds[0], made["epochs"][m])[rows]) @ steps for m, run in runs.items()}
        errors = {m: float(np.abs(values - steps[labels[rows]]).mean()) for m, values in found.items()}
        return body | {"mean_absolute_error": errors}
''',
    "report/tasks": '''"""As of classes."""
from isthmus.report.tasks import classification
class Report(classification.Report):
    """As of classes."""
''',
    "registry/model/answers": '''"""The expected number, beside what is answered of classes."""
from isthmus.registry.model.answers import classification
class Answers(classification.Answers):
    """Adds `value`."""
    @staticmethod
    def outputs(classes):
        """Returns the columns."""
        return classification.Answers.outputs(classes) | {"value": "double"}
    def rows(self, parts, logits, typical, domain):
        """Returns the columns of each image."""
        found = super().rows(parts, logits, typical, domain)
        return found.assign(value=sum(float(name) * found[f"probability_{name}"] for name in parts.classes))
''',
}


def write_raw(raw: Path) -> None:
    generator = np.random.default_rng(0)
    for domain, light in (("day", 0), ("night", 15)):
        for number in range(36):
            step = STEPS[number % 3]
            pixels = generator.normal(40 + light + 6 * int(step), 4, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
            path = raw / domain / step / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.mark.slow
def test_a_task_that_nothing_else_knows_runs_from_raw_files_to_the_report(tmp_path: Path) -> None:
    project = build_project(tmp_path / "project", "segmentation")
    for folder, text in FILES.items():
        path = project / "plugins" / folder / "regression.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    raw = project / "data" / "raw" / "numbers"
    write_raw(raw)
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["scenarios"]["demo"] |= {
        "task": "regression", "raw": "data/raw/numbers", "target_labels": "folders", "classes": STEPS, "kind": "natural"
    }  # fmt: skip
    params["models"]["cells"] |= {"views": 0}
    params["methods"] = {"source_only": {}, "zscore": {}}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))

    plugins.use(project / "plugins")
    assert len(check_plugins(project)) == 5
    run_stages(project, raw="data/raw/numbers")

    truth = read_json(project / "out/demo/truth.json")
    assert truth["mean_absolute_error"]["zscore"] < 20 / 3  # always answering the middle step is so far off
    assert (project / "out/demo/report/report.html").is_file()
    assert "value" in plugins.load("registry.model.answers", "regression").Answers.outputs(STEPS)
