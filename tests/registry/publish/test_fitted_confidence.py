import numpy as np
import pytest

from isthmus.core.config import load_params
from isthmus.core.files import read_json, write_json
from isthmus.evaluation.confidence import conformal
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.trained import open_trained, read_samples
from isthmus.registry.lineage.lineage import read_lineage
from isthmus.registry.publish.fitted_confidence import promise
from isthmus.registry.publish.packaging import ScenarioParams


@pytest.mark.slow
def test_the_served_threshold_gives_the_pipelines_own_sets_where_no_weights_are_used(built):
    lineage = read_lineage(built, "demo")
    scenario = load_params(ScenarioParams, built / "params.yaml", {"scenario": "scenarios.demo"}).scenario

    found = promise(lineage, scenario)

    samples = read_samples(built / "out/demo/manifest.parquet", built / "out/demo/prepared")
    trained = open_trained(built / "out/demo/train", ["coral"], scenario.classes, len(samples.label))["coral"]
    shares = softmax(trained.logits(0, 4) / found["temperature"]["source"])
    cal, test = (samples.rows(["line_a"], split) for split in ("cal", "test"))
    scores = conformal.scores(shares, "lac", 0)
    slow = conformal.prediction_sets(scores[cal], samples.label[cal], scores[test], found["coverage"])
    limit = found["threshold"]["source"]
    np.testing.assert_array_equal(scores[test] <= (np.inf if limit is None else limit), slow)
    assert found["temperature"]["source"] > 0
    write_json(built / ".isthmus" / "promise.json", found)  # it can be written: no infinity in it
    assert read_json(built / ".isthmus" / "promise.json") == found
