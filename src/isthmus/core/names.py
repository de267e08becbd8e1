"""Which names and paths of `params.yaml` may enter the commands of `dvc.yaml`; checked before any of them does.

    python -m isthmus.core.names params.yaml

DVC puts names and paths into its commands as they stand, and a shell runs these. So this is the first command of each
stage that something new in `params.yaml` can reach; DVC runs the commands of a stage one by one and stops at the first
that fails. Whatever passes here means nothing to a shell: names are bare words, and paths stand in single quotes.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isthmus.core.errors import ConfigError
from isthmus.core.params.yaml_file import read_yaml

NAME_PATTERN = r"[a-z0-9_]+"  # stage addresses of DVC, file names and registry names all take these
CODE = "code"  # the stage that writes `out/code`, where no scenario may write
_SECTIONS = ("scenarios", "pairs", "models", "methods", "pretraining")


def read_params(path: Path) -> dict[str, Any]:
    """Reads `params.yaml`, with every name and raw path in it safe to stand in a command.

    Raises:
        ConfigError: it is no mapping in YAML, or a name or path cannot be used: all mistakes at once, one a line.
    """
    document = read_yaml(path)
    if problems := list(name_problems(document)):
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
    return document


def name_problems(document: Mapping[str, Any]) -> Iterator[str]:
    """Yields what is wrong with the names of a document's sections and with its raw paths."""
    for section in _SECTIONS:
        entries = document.get(section)
        if not isinstance(entries, dict):
            continue  # missing or of another kind: reported when the section is read
        for name, value in entries.items():
            if not isinstance(name, str):
                yield f"{section}: the name {name!r} is not text. Write it in quotes, or give it another name"
            elif not re.fullmatch(NAME_PATTERN, name):
                yield (
                    f"{section}: the name {name!r} cannot be used. Allowed: lower-case letters, digits and '_',"
                    " since it becomes part of commands, files and models. Rename it"
                )
            elif section == "scenarios" and name == CODE:
                yield f"scenarios: the name '{CODE}' is taken: out/{CODE} holds fingerprints of the code. Rename it"
            raw = value.get("raw") if section == "scenarios" and isinstance(value, dict) else None
            if isinstance(raw, str) and (problem := path_problem(raw)):
                yield f"scenarios.{name}.raw: {problem}"


def path_problem(path: str) -> str:
    """Returns why a path cannot be a raw folder, empty if it can.

    >>> path_problem("data/raw/my photos; #2"), path_problem("data/raw/it's")[:36]
    ('', 'a path may not hold "\\'", backslashes')
    """
    if re.search(r"['\\\x00-\x1f\x7f]", path):
        return f'a path may not hold "\'", backslashes or control characters (got {path!r}). Rename the folder'
    if path.startswith(("/", "-", "~")) or "://" in path or ".." in path.split("/") or not path.strip("./ "):
        return f"must be a path inside the project, without '..' (got {path!r})"
    return ""


def main() -> int:
    """Checks the file that the command line names."""
    try:
        read_params(Path(sys.argv[1]))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
