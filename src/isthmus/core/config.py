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
from isthmus.core.params.yaml_file import read_yaml as read_yaml  # for who reads a file that is no params.yaml


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
        ConfigError: all mistakes at once, one a line, each beginning with `where` and the dotted key.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_mistakes(error, kind, values, where, places or {}))) from None


def _mistakes(
    error: ValidationError, kind: type[BaseModel], values: Mapping[str, Any], where: str, places: Mapping[str, str]
) -> list[str]:
    """Returns a line a mistake, without pydantic's own words for what is behind it."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}  # place -> sentence -> what it got and what is allowed
    alternatives: set[tuple[Any, ...]] = set()
    for mistake in error.errors():
        location = _within(values, mistake["loc"], missing=mistake["type"] == "missing")
        if len(location) < len(mistake["loc"]):
            alternatives.add(location)
        sentence = _sentence(mistake, location)
        after = "" if mistake["type"] == "missing" or "(got" in sentence else _got(mistake["input"])
        if mistake["type"] == "extra_forbidden":
            allowed = _allowed(kind, list(mistake["loc"])[:-1])
            after += (
                f".{plugins.did_you_mean(str(location[-1]), allowed)} Allowed: {', '.join(allowed) or 'no options'}"
            )
        if mistake["type"] == "missing" and isinstance(location[-1], int):
            location = location[:-1]
        found.setdefault(location, {})[sentence] = after
    lines = []
    for location, told in found.items():
        # of a value that may be this or that, only the complaint of the form that was meant
        deeper = [other for other in found if other[: len(location)] == location and len(other) > len(location)]
        if deeper and location in alternatives:
            continue
        named = [places.get(str(location[0]), str(location[0])), *map(str, location[1:])] if location else []
        before = f"{where}{'.'.join(named)}" if named else where.rstrip(": .")
        lines.append(f"{before}: {'; or '.join(told)}{next(filter(None, told.values()), '')}")
    return lines


def _within(values: Any, location: tuple[Any, ...], missing: bool) -> tuple[Any, ...]:
    """Returns a mistake's place in the user's values: without the parts that name alternatives of a field's type."""
    place: list[Any] = []
    for part in location:
        is_key = isinstance(values, Mapping) and part in values
        is_item = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if is_key or is_item:
            place.append(part)
            values = values[part]
    return (*place, location[-1]) if missing else tuple(place)


def _sentence(mistake: Any, location: tuple[Any, ...]) -> str:
    what, context = mistake["type"], mistake.get("ctx", {})
    if what == "missing":
        return f"Field required: entry {location[-1] + 1}" if isinstance(location[-1], int) else "Field required"
    if what in ("value_error", "assertion_error"):
        return str(context.get("error", mistake["msg"]))
    if what in ("too_short", "too_long"):
        short = what == "too_short"
        limit, there = context["min_length" if short else "max_length"], context["actual_length"]
        return f"{'at least' if short else 'at most'} {limit} needed, {there or 'none'} there"
    return _PLAIN.get(what, str(mistake["msg"]))


_PLAIN = {
    **dict.fromkeys(
        ("model_type", "model_attributes_type", "dataclass_type", "dict_type", "mapping_type"),
        "must be a section: 'name: value' lines, or {name: value}",
    ),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "must be a list, such as [a, b]"),
    "string_type": "Input should be a valid string: put it in quotes",
    "path_type": "must be a path",
    "none_required": "must be null",
}
_LONGEST = 80  # characters of a value in a message


def _got(value: Any) -> str:
    """Returns what a user wrote, as far as it fits on a line; a whole section says nothing."""
    text = repr(value)
    return "" if isinstance(value, Mapping | BaseModel) and value else f" (got {_cut(text)})"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


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
