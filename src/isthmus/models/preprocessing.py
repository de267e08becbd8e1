"""What a model's weights want of preprocessing, where the scenario leaves it open."""

from typing import Any

from isthmus.core import plugins
from isthmus.data.scenario import Scenario
from isthmus.models import ModelConfig


def with_defaults_of_weights(scenario: Scenario, backbone: dict[str, Any]) -> Scenario:
    """Returns the scenario with the size, interpolation and crop of the weights where `preprocess` sets none.

    Where answers are masks or boxes, nothing is cropped but what `preprocess` says.

    Args:
        scenario: its kind takes some of the three; what it does not take is left out.
        backbone: of the scenario's model, as in params.yaml; empty: nothing is known of it.

    Raises:
        ConfigError: an option of the backbone is unknown or wrong.
    """
    if not backbone:
        return scenario
    taken = set(plugins.load("data.kinds", scenario.kind).Config.model_fields)
    if scenario.annotation_config().cells:
        taken -= {"crop", "crop_mode"}  # each pixel of the image counts, not what is in its middle
    config = ModelConfig(mode="frozen", backbone=backbone).backbone_config(
        f"params.yaml: models.{scenario.model}.backbone."
    )
    own = config.preprocessing([name for name in taken if name not in scenario.preprocess])
    return scenario.model_copy(update={"preprocess": own | scenario.preprocess})
