"""The names under a section of `params.yaml`, without loading what they stand for: imports next to nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.core.errors import ConfigError
from isthmus.core.plugins import did_you_mean


def section_names(document: Mapping[str, Any], section: str, params: Path) -> list[str]:
    """Returns the names in a section.

    Raises:
        ConfigError: there is no such section, or it is empty.
    """
    found = document.get(section)
    if section == "scenarios" and section in document and not found:
        raise ConfigError(
            f"{params}: there is no scenario yet. Add your own images with 'isthmus add NAME --source DIR --target DIR"
            " --kind KIND', or a known pair with 'isthmus fetch NAME'"
        )
    if not isinstance(found, dict) or not found:
        near = did_you_mean(section, list(map(str, document)))
        raise ConfigError(f"{params}: section '{section}' is missing or empty.{near} There are: {', '.join(document)}")
    return list(map(str, found))


def scenario_names(document: Mapping[str, Any], wanted: Sequence[str], params: Path) -> list[str]:
    """Returns the wanted scenarios; none named: all.

    Raises:
        ConfigError: one of them is not there.
    """
    there = section_names(document, "scenarios", params)
    if unknown := [name for name in wanted if name not in there]:
        raise ConfigError(
            "\n".join(
                f"params.yaml: no scenario '{name}'.{did_you_mean(name, there)} There are: {', '.join(there)}."
                f" Create one with 'isthmus add {name} --source DIR --target DIR --kind KIND' or 'isthmus fetch {name}'"
                for name in unknown
            )
        )
    return list(wanted) or there
