"""What there is to name in `params.yaml`, each with the first sentence of its documentation; imports none of it."""

import ast
import re
from pathlib import Path

from isthmus.core import plugins
from isthmus.core.code.fingerprint import Code
from isthmus.core.params.yaml_file import read_yaml

FOLDERS = {
    "methods": "adapt.methods",
    "kinds": "data.kinds",
    "tasks": "data.tasks",
    "rules": "gates.rules",
    "pairs": "data.pairs",
    "validators": "evaluation.validators",
    "backbones": "models.backbones",
    "readers": "data.readers",
}
SCENARIOS = "scenarios"
WHAT = (SCENARIOS, *FOLDERS)


def listed(project: Path | None, what: str) -> dict[str, str]:
    """Returns name -> one line about it; the project's own plugins are marked.

    Args:
        project: its root, whose plugins are known; None outside of any, where there are no scenarios.
        what: one of `WHAT`.
    """
    if what == SCENARIOS:
        scenarios = (read_yaml(project / "params.yaml").get("scenarios") or {}) if project else {}
        return {str(name): _scenario(section) for name, section in scenarios.items()}
    folder, code = FOLDERS[what], Code()
    own = plugins.own_names(folder)
    found = {}
    for name in plugins.names(folder):
        line = _first_sentence(code.file(f"isthmus.{folder}.{name}"))
        found[name] = f"{line} (plugins/)".strip() if name in own else line
    return found


def _scenario(section: object) -> str:
    if not isinstance(section, dict):
        return ""
    sources = section.get("source")
    source = ", ".join(map(str, sources)) if isinstance(sources, list) else str(sources)
    return f"{section.get('task', 'classification')}, {section.get('kind')}: {source} -> {section.get('target')}"


def _first_sentence(file: Path) -> str:
    try:
        text = ast.get_docstring(ast.parse(file.read_bytes())) or ""
    except (SyntaxError, ValueError):
        return "cannot be read: see 'isthmus check --plugins'"
    words = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z)][.?])\s(?=[A-Z`])", words)[0]
