"""Writes the pages of the reference that follow from the code, while MkDocs builds the site (`hooks` of mkdocs.yml)."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from isthmus.cli import app
from isthmus.core import plugins
from isthmus.core.errors import IsthmusError
from isthmus.listing import FOLDERS, listed
from isthmus.new_project import template
from isthmus.registry.promotion import promotion
from isthmus.schema import schema
from pipelines import transfer

# where the options of a plugin stand in params.yaml
PLACES = {
    "kinds": "scenarios.NAME.preprocess",
    "tasks": "scenarios.NAME.annotations",
    "backbones": "models.NAME.backbone",
    "methods": "methods",
    "pairs": "pairs",
    "validators": "select.validators",
    "rules": "gates",
}
NAMED = ("scenarios", "models", "pretraining")  # sections whose keys are the user's names
WIDTH = 86  # [character] of a command's help
Property = dict[str, Any]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills the navigation with all decisions."""
    assert config.nav is not None
    for entry in config.nav:
        if "Decisions" in entry:
            entry["Decisions"] = ["decisions/index.md", *(f"decisions/{page.name}" for page in decisions(config))]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    pages = {
        "reference/index.md": index,
        "reference/settings.md": settings,
        "reference/commands.md": commands,
        "reference/statuses.md": statuses,
        "reference/plugins.md": shipped,
        "decisions/index.md": lambda: decision_list(config),
    }
    for path, write in pages.items():
        files.append(File.generated(config, path, content=write()))
    return files


def decisions(config: MkDocsConfig) -> list[Path]:
    """Returns the pages of decisions, in the order of their numbers."""
    return sorted(Path(config.docs_dir).glob("decisions/[0-9]*.md"))


def decision_list(config: MkDocsConfig) -> str:
    """Returns the page that lists all decisions."""
    lines = [f"- [{page.read_text().partition(chr(10))[0].lstrip('# ')}]({page.name})" for page in decisions(config)]
    text = "One page for each question that was settled: the options, the choice, and when to look at it again."
    return "\n".join(["# Decisions", "", text, "", *lines, ""])


def index() -> str:
    """Returns the first page of the reference."""
    return """# Reference

- [Settings](settings.md): every option of `params.yaml` with its type, unit, default and meaning.
- [Commands](commands.md): every command with its options.
- [Exit statuses](statuses.md): what a script can ask.
- [Plugins](plugins.md): every method, kind, task, rule, pair, validator, backbone and reader that is shipped.
- [Interfaces](interfaces.md): what plugins derive from and are given.
- [Files](../contracts.md): what each stage reads and writes, with columns, shapes and dtypes.
- [Formats](../formats.md) of images, [weights](../weights.md) that load, [packages](../packages.md), and the
  [glossary](../glossary.md).

The first five pages are written from the code, so they say what this version does.
"""


def settings() -> str:
    """Returns the page with every option of `params.yaml`."""
    found = schema()
    definitions = found["$defs"]
    order = [*re.findall(r"^(\w+):", template("params.yaml"), re.MULTILINE)]
    sections = sorted(found["properties"], key=lambda name: (order.index(name) if name in order else 99, name))
    lines = [
        "# Settings of params.yaml",
        "",
        "`isthmus check` finds every mistake in `params.yaml` at once, and `isthmus schema` prints its JSON schema for"
        " editors. `NAME` is a name of your own. An option without a default is required.",
        "",
        "Try a value once, without a change of the file: `dvc exp run -S models.vit.epochs=5`; a key that the file does"
        " not have: `-S +models.vit.clip=5`.",
    ]
    for name in sections:
        lines += ["", f"## {name}.NAME" if name in NAMED else f"## {name}", ""]
        places = [what for what, place in PLACES.items() if place == name]
        if places:
            lines += plugin_options(places[0])
        elif name == "seed":
            lines += ["An integer. The same inputs, settings and seed give the same results.", ""]
        else:
            part = _target(found["properties"][name], definitions)
            lines += [part.get("description", ""), "", *table(part, definitions)]
        inside = [what for what, place in PLACES.items() if place.startswith(f"{name}.")]
        for what in inside:
            lines += ["", f"### {PLACES[what]}", "", *plugin_options(what, "####")]
    return "\n".join(lines) + "\n"


def plugin_options(what: str, heading: str = "###") -> list[str]:
    """Returns the lines on the options of all plugins of a folder."""
    folder = FOLDERS[what]
    lines = [f"Each is a module of `isthmus.{folder}`, or of `plugins/{folder.replace('.', '/')}` of your project."]
    for name, line in listed(None, what).items():
        part = plugins.load(folder, name).Config.model_json_schema()
        lines += ["", f"{heading} {name}", "", line, ""]
        lines += table(part, part.get("$defs", {})) if part.get("properties") else ["No options."]
    return lines


def table(part: Property, definitions: Property) -> list[str]:
    """Returns the options of one section as a table, those of sections in it too."""
    rows = [" | ".join(row) for row in rows_of(part, definitions)]
    return [
        "| option | type | unit | default | meaning |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {r} |" for r in rows),
    ]


def rows_of(part: Property, definitions: Property, before: str = "") -> Iterator[tuple[str, ...]]:
    """Yields option, type, unit, default and meaning."""
    required = part.get("required", [])
    for name, option in part["properties"].items():
        below, wrapped = _section(option, definitions)
        if below is not None:
            if wrapped or "description" in option:
                meaning = option.get("description") or below.get("description", "")
                yield _row(f"{before}{name}", "section", "", "null" if wrapped == "null" else "", meaning)
            yield from rows_of(below, definitions, f"{before}{name}.{'NAME.' if wrapped == 'named' else ''}")
            continue
        default = "" if name in required else json.dumps(option.get("default", {}))
        meaning = option.get("description", "")
        units = re.findall(r"\[([^\]]*[a-z%][^\]]*)\]", meaning)
        yield _row(f"{before}{name}", _type(option, definitions), units[-1] if units else "", default, meaning)


def _row(name: str, type_: str, unit: str, default: str, meaning: str) -> tuple[str, ...]:
    shown = [f"`{name}`", type_, unit, f"`{default}`" if default else "", meaning]
    return tuple(_escaped(cell) for cell in shown)


def _escaped(text: str) -> str:
    parts = text.replace("|", "\\|").replace("\n", " ").split("`")  # each second one is code, which Markdown escapes
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _target(option: Property, definitions: Property) -> Property:
    """Returns the section that an option or its named parts consist of."""
    below, _ = _section(option, definitions)
    if below is None:
        below, _ = _section(next(o for o in option["anyOf"] if o.get("type") != "null"), definitions)
    assert below is not None
    return below


def _section(option: Property, definitions: Property) -> tuple[Property | None, str]:
    """Returns the section that an option is, and how it is wrapped: by nothing, by names, or it may be absent."""
    if "$ref" in option:
        part = definitions[option["$ref"].rpartition("/")[2]]
        return (part, "") if part.get("properties") else (None, "")
    if isinstance(inner := option.get("additionalProperties"), dict) and "$ref" in inner:
        return _section(inner, definitions)[0], "named"
    choices = [o for o in option.get("anyOf", []) if o.get("type") != "null"]
    if len(choices) == 1 and "$ref" in choices[0]:
        return _section(choices[0], definitions)[0], "null"
    return None, ""


def _type(option: Property, definitions: Property) -> str:
    if "$ref" in option:
        return _type(definitions[option["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in option:
        return " or ".join(_type(choice, definitions) for choice in option["anyOf"] if choice.get("type") != "null")
    if "enum" in option:
        return ", ".join(f"`{value}`" for value in option["enum"])
    if "const" in option:
        return f"`{option['const']}`"
    bounds = [
        f"{sign} {option[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in option
    ]
    match option.get("type"):
        case "array" if "prefixItems" in option:
            name = f"list of {len(option['prefixItems'])}: {_type(option['prefixItems'][0], definitions)}"
        case "array":
            name = f"list of {_type(option.get('items', {}), definitions)}"
        case "object" if isinstance(option.get("additionalProperties"), dict):
            name = f"name → {_type(option['additionalProperties'], definitions)}"
        case "object":
            name = "mapping"
        case other:
            name = {"string": "text", "boolean": "true, false"}.get(str(other), str(other or "any"))
    return " ".join([name, ", ".join(bounds)]).strip()


def verbs() -> list[tuple[str, Any]]:
    """Returns the commands of `isthmus` by their names, as typer makes them."""
    group: Any = typer.main.get_command(app)
    return sorted(group.commands.items())


def commands() -> str:
    """Returns the page with the help of every command."""
    os.environ["NO_COLOR"] = "1"
    lines = ["# Commands", "", "`isthmus COMMAND --help` prints the same. Commands work in every folder of a project."]
    for name, command in verbs():
        context = command.context_class(
            command, info_name=f"isthmus {name}", terminal_width=WIDTH, max_content_width=WIDTH
        )
        lines += ["", f"## isthmus {name}", "", "```text", command.get_help(context), "```"]
    return "\n".join(lines) + "\n"


def statuses() -> str:
    """Returns the page with every exit status."""
    own = {
        name: match[1].strip()
        for name, command in verbs()
        if (match := re.search(r"Exit status: (.*)", " ".join((command.help or "").split())))
    }
    errors = sorted(_errors(), key=lambda error: (error.exit_status, error.__name__))
    return "\n".join(
        [
            "# Exit statuses",
            "",
            "Every command ends with 0 when it did what it was asked for, and with 130 after Ctrl-C. An error ends with"
            " one message (what was found, what is allowed, what to do next) and with the status of its kind:",
            "",
            "| status | error | meaning |",
            "| --- | --- | --- |",
            *(f"| {e.exit_status} | `{e.__name__}` | {_plain(e)} |" for e in errors),
            "",
            "Some commands answer a question by their status:",
            "",
            "| command | exit status |",
            "| --- | --- |",
            *(f"| `isthmus {name}` | {_escaped(text)} |" for name, text in own.items()),
            "",
            "What `isthmus watch --adapt` ends with: [Watching for a drift](../serving.md#watching-for-a-drift).",
            "",
        ]
    )


def _errors() -> Iterator[type[IsthmusError]]:
    """Yields the kinds of errors, and those below them that have a status of their own."""
    assert promotion and transfer  # their errors are known once they are imported
    kinds = list(IsthmusError.__subclasses__())
    for kind in kinds:
        if kind.__base__ is IsthmusError or "exit_status" in vars(kind):
            yield kind
        kinds += kind.__subclasses__()


def _plain(error: type[IsthmusError]) -> str:
    text = " ".join((error.__doc__ or "").split())
    return _escaped(re.sub(r" Exit status \d\.", "", text))


def shipped() -> str:
    """Returns the page with every plugin that is shipped."""
    lines = [
        "# Plugins that are shipped",
        "",
        "A name in `params.yaml` is the name of one of these, or of [a plugin of your own](../plugins.md)."
        " `isthmus list methods` prints such a list, with your own plugins in it.",
    ]
    for what in FOLDERS:
        lines += ["", f"## {what}", "", "| name | what it is |", "| --- | --- |"]
        lines += [f"| `{name}` | {_escaped(line)} |" for name, line in listed(None, what).items()]
    return "\n".join(lines) + "\n"
