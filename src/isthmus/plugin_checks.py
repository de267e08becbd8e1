"""Checks a project's own plugins: where they lie, what they import, and the contract of their folder."""

import ast
from collections.abc import Iterator
from pathlib import Path

from isthmus.core import plugins
from isthmus.core.code.fingerprint import import_statements
from isthmus.core.errors import ConfigError
from isthmus.core.plugins import MEMBERS, OWN, did_you_mean


def check_plugins(project: Path) -> list[str]:
    """Returns the plugins of a project, each in order, as paths in it.

    Raises:
        ConfigError: all problems at once, one a line.
    """
    from isthmus.contracts import problems as contract_problems

    found, problems = [], [*misplaced(project)]
    for folder in MEMBERS:
        try:
            plugins.names(folder)
        except ConfigError as error:
            problems.append(str(error))
            continue
        for file in plugins.own_files(folder):
            wrong = list(_import_problems(project, file))
            if not wrong and not file.stem.startswith("_"):
                wrong = contract_problems(folder, file.stem)
            problems += [line if line.startswith(str(file)) else f"{file}: {line}" for line in wrong]
            found.append(file.relative_to(project).as_posix())
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def misplaced(project: Path) -> Iterator[str]:
    """Yields a line for each module below `plugins/` that lies in no plugin folder, where nothing would find it."""
    there = [folder.replace(".", "/") for folder in MEMBERS]
    for file in sorted((project / OWN).rglob("*.py")):
        folder = file.parent.relative_to(project / OWN).as_posix()
        if folder not in there and file.stem != "__init__":
            yield (
                f"{file}: '{folder}' is no plugin folder.{did_you_mean(folder, there)}"
                f" There are: {', '.join(there)}. Move the file"
            )


def _import_problems(project: Path, file: Path) -> Iterator[str]:
    """Yields imports that neither a fingerprint nor a registered model would follow."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return  # to load it says so
    here = f"isthmus.{'.'.join(file.parent.relative_to(project / OWN).parts)}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            whole = f"from {here}.{node.module or '_NAME'} import ..."
            yield f"line {node.lineno}: a relative import. Write it in full: {whole}"
        for top in {module.partition(".")[0] for module, _ in import_statements(node)}:
            if top != "isthmus" and ((project / f"{top}.py").is_file() or (project / top).is_dir()):
                yield (
                    f"line {node.lineno}: imports '{top}' of the project, which is in no fingerprint and no registered"
                    f" model. Move what it needs into {file.with_name('_NAME.py')} and import {here}._NAME"
                )
