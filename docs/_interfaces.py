"""Writes the reference of what plugins derive from and are given, from the classes' own docstrings."""

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# what a plugin of each folder derives from and meets
INTERFACES = {
    "Methods (`adapt/methods`)": [
        "isthmus.adapt.MethodConfig",
        "isthmus.adapt.Method",
        "isthmus.adapt.Shape",
        "isthmus.adapt.Model",
        "isthmus.data.batch.Batch",
        "isthmus.data.batch.Outputs",
        "isthmus.adapt.Session",
    ],
    "Kinds of imagery (`data/kinds`)": ["isthmus.data.kinds.KindConfig", "isthmus.data.kinds.Kind"],
    "Simulated pairs (`data/pairs`)": ["isthmus.data.pairs.PairConfig", "isthmus.data.pairs.Pair"],
    "Readers (`data/readers`)": ["isthmus.data.readers.Reader", "isthmus.data.image.Image"],
    "Validators (`evaluation/validators`)": [
        "isthmus.evaluation.validators.ValidatorConfig",
        "isthmus.evaluation.validators.Validator",
        "isthmus.evaluation.validators.Trial",
    ],
    "Rules of the gate (`gates/rules`)": ["isthmus.gates.Rule", "isthmus.gates.Evidence", "isthmus.gates.Reason"],
    "Backbones (`models/backbones`)": [
        "isthmus.models.backbones.BackboneConfig",
        "isthmus.models.backbones.Backbone",
    ],
}
HELPERS = ("isthmus.adapt.predictions", "isthmus.adapt.distances", "isthmus.adapt.layers")
_SECTIONS = r"(Attributes|Args|Returns|Raises|Yields):"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page."""
    files.append(File.generated(config, "reference/interfaces.md", content=interfaces()))
    return files


def interfaces() -> str:
    """Returns the page."""
    lines = [
        "# Interfaces of plugins",
        "",
        "What a [plugin](../plugins.md) derives from and is given. In shapes N is a number of rows, S of labelled and T"
        " of target rows, K of classes, D and B of features before and after the bottleneck.",
    ]
    for title, names in INTERFACES.items():
        lines += ["", f"## {title}"]
        for name in names:
            lines += ["", *_class(name)]
    lines += ["", "## Functions that methods use"]
    for name in HELPERS:
        module = import_module(name)
        lines += ["", f"### {name}", "", f"{_first(module)}", ""]
        for function, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == name and not function.startswith("_"):
                lines.append(f"- `{function}{_signature(value)}`: {_first(value)}")
    return "\n".join(lines) + "\n"


def _class(name: str) -> Iterator[str]:
    module, _, short = name.rpartition(".")
    kind = getattr(import_module(module), short)
    yield f"### {short}"
    yield ""
    yield f"`from {module} import {short}`"
    yield ""
    yield from _text(inspect.getdoc(kind) or "")
    own = [
        (method, getattr(value, "__func__", getattr(value, "fget", value)))
        for method, value in vars(kind).items()
        if not method.startswith("_") or method == "__call__"
    ]
    for method, value in own:
        if inspect.isfunction(value) and value.__doc__:
            yield ""
            yield f"**`{method}{_signature(value)}`**"
            yield ""
            yield from _text(inspect.getdoc(value) or "")


def _signature(function: Any) -> str:
    shown = re.sub(r"\b(?:[a-z_]+\.)+([A-Z])", r"\1", str(inspect.signature(function)))
    return shown.replace("'", "").replace("(self, ", "(").replace("(self)", "()")


def _first(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _text(documentation: str) -> Iterator[str]:
    """Yields a docstring as Markdown: its sections' entries as a list."""
    for paragraph in documentation.split("\n\n"):
        head, _, rest = paragraph.partition("\n")
        if not re.fullmatch(_SECTIONS, head):
            yield paragraph
            yield ""
            continue
        if head != "Attributes:":
            yield head
            yield ""
        entries = re.sub(r"\n {8,}", " ", rest)
        for entry in entries.splitlines():
            name, _, meaning = entry.strip().partition(": ")
            yield f"- `{name}`: {meaning}"
        yield ""
