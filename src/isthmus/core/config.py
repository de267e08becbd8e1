"""`params.yaml` -> frozen objects, in one hop. Nothing passes a dict on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.core.names import read_params
from isthmus.core.yaml_file import read_yaml as read_yaml  # for who reads a file that is no params.yaml


class Config(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


@dataclass(frozen=True)
class plugin:  # noqa: N801 - reads as a marker: Annotated[MethodConfig, plugin("adapt.methods")]
    """Marks a field whose class is the `Config` of the plugin named by the last part of the section's path."""

    folder: str


C = TypeVar("C", bound=Config)


def load_params(kind: type[C], path: Path, sections: Mapping[str, str]) -> C:
    """Reads one typed object from `params.yaml`.

    Args:
        kind: the class of the object; each field is one section.
        path: the YAML file.
        sections: field -> dotted path of its section, e.g. `{"method": "methods.dann"}`. A field that is not
            named here is the top-level section of the same name. `models.[scenarios.steel.model]` takes the
            part in brackets from the value at that path.

    Raises:
        ConfigError: all mistakes at once, one a line, each with file, key, value and what is allowed.
    """
    document = read_params(path)
    places = {field: sections.get(field, field) for field in kind.model_fields}
    values: dict[str, Any] = {}
    problems: list[str] = []
    fields: dict[str, Any] = {}
    for field, place in places.items():
        if reference := re.search(r"\[(.+)\]", place):
            found, problem = _section(document, reference.group(1), path)
            if problem:
                raise ConfigError(problem)
            places[field] = place.replace(reference.group(0), str(found))
    for field, place in places.items():
        found, problem = _section(document, place, path)
        if problem and not kind.model_fields[field].is_required() and place not in sections.values():
            continue
        if problem:
            problems.append(problem)
            continue
        values[field] = found
        for marker in kind.model_fields[field].metadata:
            if isinstance(marker, plugin):
                try:
                    fields[field] = (plugins.load(marker.folder, place.rpartition(".")[2]).Config, ...)
                except ConfigError as error:
                    problems.append(f"{path}: {place}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    resolved = create_model(kind.__name__, __base__=kind, **fields) if fields else kind
    return validated(resolved, values, f"{path}: ", places)


def validated(kind: type[C], values: Mapping[str, Any], where: str, places: Mapping[str, str] | None = None) -> C:
    """Builds a config from plain values.

    Raises:
        ConfigError: all mistakes at once, each beginning with `where` and the dotted key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = []
        for mistake in error.errors():
            location = [str(part) for part in mistake["loc"]]
            if places and location:
                location[0] = places.get(location[0], location[0])
            key = ".".join(location) or "(all)"
            got = "" if mistake["type"] == "missing" else f" (got {mistake['input']!r})"
            hint = ""
            if mistake["type"] == "extra_forbidden":
                allowed = _allowed(kind, list(mistake["loc"])[:-1])
                hint = f".{plugins.did_you_mean(location[-1], allowed)} Allowed: {', '.join(allowed)}"
            lines.append(f"{where}{key}: {mistake['msg']}{got}{hint}")
        raise ConfigError("\n".join(lines)) from None


def _section(document: dict[str, Any], place: str, path: Path) -> tuple[Any, str]:
    node: Any = document
    seen: list[str] = []
    for part in place.split("."):
        if not isinstance(node, dict) or part not in node:
            there = sorted(map(str, node)) if isinstance(node, dict) else []
            inside = f" in '{'.'.join(seen)}'" if seen else ""
            hint = plugins.did_you_mean(part, there)
            return None, f"{path}: section '{part}' is missing{inside}.{hint} There are: {', '.join(there) or 'none'}"
        node, seen = node[part], [*seen, part]
    return ({} if node is None else node), ""


def _allowed(kind: type[BaseModel], location: list[Any]) -> list[str]:
    model: Any = kind
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is not None:
            model = field.annotation
            continue
        arguments = [a for a in getattr(model, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = arguments[0] if arguments else model
    arguments = [a for a in getattr(model, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
    model = arguments[0] if arguments else model
    return sorted(getattr(model, "model_fields", {}))
