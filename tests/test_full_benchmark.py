from pathlib import Path

import yaml

from benchmarks import full
from isthmus.models import ModelConfig

PARAMS = Path(__file__).parents[1] / "params.yaml"


def test_the_scenario_keeps_its_own_preprocessing_but_for_the_size_and_all_weights_train(tmp_path: Path) -> None:
    document = yaml.safe_load(PARAMS.read_text())
    document["scenarios"]["mine"] = {"model": "vit", "preprocess": {"image_size": 154, "clahe": 2.0}}
    given = tmp_path / "params.yaml"
    given.write_text(yaml.safe_dump(document))

    written = yaml.safe_load(full.settings(given, ["mine"], 5, 1, tmp_path).read_text())

    model = ModelConfig.model_validate(written["models"]["vit"])
    assert written["scenarios"]["mine"]["preprocess"] == {"image_size": 98, "clahe": 2.0}
    assert (model.mode, model.epochs, model.backbone_rate * model.learning_rate) == ("full", 5, 2e-5)
    assert written["train"]["seeds"] == [0]


def test_a_table_has_a_row_a_method_and_leaves_open_what_was_not_measured() -> None:
    results = {"source_only": {"steel": [0.25], "blood": [0.5, 0.75]}, "coral": {"steel": [0.5]}}

    assert full.table(results, ["steel", "blood"]).splitlines()[2:] == [
        "| source_only | 25.0 | 62.5 (50.0 to 75.0) |",
        "| coral | 50.0 |  |",
    ]
