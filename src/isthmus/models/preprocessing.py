"""What a model's weights want of preprocessing, where the scenario leaves it open."""

from typing import Any

from isthmus.core import plugins
from isthmus.data.scenario import Scenario
from isthmus.models import ModelConfig


def with_defaults_of_weights(scenario: Scenario, backbone: dict[str, Any]) -> Scenario:
    """Returns the scenario with the size, interpolation and crop of the weights where `preprocess` sets none.

    Where pixels have answers, nothing is cropped but what `preprocess` says, and where defects are looked for, images
    are squeezed to a square.

    Args:
        scenario: its kind takes some of the three; what it does not take is left out.
        backbone: of the scenario's model, as in params.yaml; empty: nothing is known of it.

    Raises:
        ConfigError: an option of the backbone is unknown or wrong.
    """
    if not backbone:
        return scenario
    answers, fields = scenario.annotation_config(), set(plugins.load("data.kinds", scenario.kind).Config.model_fields)
    taken = set(fields)
    if answers.by_place:
        taken -= {"crop", "crop_mode"}  # each pixel of the image counts, not what is in its middle
    config = ModelConfig(mode="frozen", backbone=backbone).backbone_config(
        f"params.yaml: models.{scenario.model}.backbone."
    )
    own = config.preprocessing([name for name in taken if name not in scenario.preprocess])
    if answers.regions:  # a defect may lie anywhere
        whole = {"crop_mode": "squash", "squash": True}
        own |= {name: value for name, value in whole.items() if name in fields}
    return scenario.model_copy(update={"preprocess": own | scenario.preprocess})
