"""The JSON schema of `params.yaml`, for editors that complete and check it while it is typed."""

from typing import Any

from pydantic import ConfigDict, create_model

from isthmus.checks import STAGES
from isthmus.core import plugins
from isthmus.core.config import Config
from isthmus.core.errors import ConfigError
from isthmus.data.scenario import Scenario
from isthmus.gates.judge import FOLDER
from isthmus.models import ModelConfig
from isthmus.monitoring.drift import WatchParams
from isthmus.registry.lineage.git_remote import LineageParams
from isthmus.stages import train
from isthmus.training.masked import PretrainConfig

_NAMED = {"methods": "adapt.methods", "pairs": "data.pairs", "gates": FOLDER}  # each key names a plugin


def schema() -> dict[str, Any]:
    """Returns the schema, with the options of all plugins that can be imported, the project's own too."""
    fields: dict[str, Any] = {
        "scenarios": (dict[str, Scenario], ...),
        "models": (dict[str, ModelConfig], ...),
        "pretraining": (dict[str, PretrainConfig] | None, None),
    }
    fields |= {section: (_plugins(section, folder), ...) for section, folder in _NAMED.items()}
    for params in (*(stage.Params for stage in (*STAGES, train)), WatchParams, LineageParams):
        elsewhere = getattr(params, "SECTIONS", {})
        for name, info in params.model_fields.items():
            if name not in elsewhere and name not in fields:
                fields[name] = (info.annotation, ... if info.is_required() else None)
    model = create_model("params.yaml", __config__=ConfigDict(protected_namespaces=()), **fields)
    written: dict[str, Any] = model.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | written


def _plugins(section: str, folder: str) -> type[Config]:
    """Returns a mapping that takes the plugins of a folder by their names, each with its own options."""
    options: dict[str, Any] = {}
    for name in plugins.names(folder):
        try:
            options[name] = (plugins.load(folder, name).Config | None, None)
        except ConfigError:  # a package of an extra is not installed, or the project's own cannot be imported
            options[name] = (dict[str, Any] | None, None)
    return create_model(section, __base__=Config, **options)
