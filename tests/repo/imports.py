"""Which of our modules a stage imports, found in the source without running it.

`python -m tests.repo.imports STAGE` prints the list as it must stand under `deps:` in dvc.yaml; without a name, of all
stages; `--write` writes it there. Imports inside functions count, and so does each package's `__init__.py` on the way.
Of a plugin folder only the package itself counts, and what dvc.yaml can choose from it (`CHOSEN`), with all that its
plugins share.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src"
STAGES = sorted(path.stem for path in (SOURCE / "isthmus" / "stages").glob("[a-z]*.py"))

# stage -> plugin folder -> what dvc.yaml names of it: one file where its own keys say which, else the folder
CHOSEN: dict[str, dict[str, str]] = {
    "simulate": {"data.pairs": "${key}.py"},
    "ingest": {"data.readers": ""},
    "prepare": {"data.readers": "", "data.kinds": "${item.kind}.py", "models.backbones": ""},
    "pretrain": {"models.backbones": ""},
    "embed": {"models.backbones": ""},
    "train": {"models.backbones": "", "adapt.methods": "${item.method}.py"},
    "explain": {"models.backbones": ""},
    "robustness": {"models.backbones": ""},
    "select": {"evaluation.validators": ""},
}
_LOOK_UPS = {"load", "names", "plugin"}  # of core/plugins.py and core/config.py: their first argument is a folder


def code_of(stage: str) -> list[str]:
    """Returns the code a stage depends on, as paths for dvc.yaml, sorted."""
    chosen = CHOSEN.get(stage, {})
    start = [f"isthmus.stages.{stage}"]
    for folder in chosen:
        start += [f"isthmus.{folder}", *plugins_in(folder)]
    modules = reachable(start)
    for folder in chosen:
        modules -= set(plugins_in(folder))
        if not chosen[folder]:
            modules.discard(f"isthmus.{folder}")  # the whole folder stands there instead
    paths = {relative(file_of(module)) for module in modules} | {p for m in modules for p in data_folders(m)}
    paths |= {f"src/isthmus/{folder.replace('.', '/')}/{name}".rstrip("/") for folder, name in chosen.items()}
    return sorted(paths)


def reachable(start: Iterable[str]) -> set[str]:
    """Returns the modules, all they import within isthmus, and the packages these lie in."""
    found: set[str] = set()
    pending = list(start)
    while pending:
        module = pending.pop()
        if module in found:
            continue
        found.add(module)
        parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
        pending += [*parents, *imports_of(module), *(f"isthmus.{folder}" for folder in folders_looked_up(module))]
    return found


@cache
def tree(module: str) -> ast.Module:
    """Parses a module."""
    return ast.parse(file_of(module).read_text(encoding="utf-8"))


def imports_of(module: str) -> set[str]:
    """Returns the modules of ours that a module names in its import statements."""
    found = set()
    for name, attributes in import_statements(module):
        if name.partition(".")[0] == "isthmus":
            found.add(name)
            found |= {f"{name}.{attribute}" for attribute in attributes if exists(f"{name}.{attribute}")}
    return found


def import_statements(module: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each import of a module: the module it names, and the names taken from it."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: write imports in full"
            yield node.module, [alias.name for alias in node.names]


def folders_looked_up(module: str) -> set[str]:
    """Returns the plugin folders that a module names in a look-up."""
    return {
        node.args[0].value
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) in _LOOK_UPS
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
        and exists(f"isthmus.{node.args[0].value}")
    }


def data_folders(module: str) -> set[str]:
    """Returns folders without code beside a module (templates) that it names in a string."""
    strings = {n.value for n in ast.walk(tree(module)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    beside = [path for path in file_of(module).parent.iterdir() if path.is_dir() and path.name in strings]
    return {relative(path) for path in beside if not any(path.glob("*.py")) and path.name != "__pycache__"}


def plugins_in(folder: str) -> list[str]:
    """Returns the plugin modules of a folder such as `adapt.methods`."""
    files = (SOURCE / "isthmus" / folder.replace(".", "/")).glob("[a-z]*.py")
    return sorted(f"isthmus.{folder}.{path.stem}" for path in files)


def file_of(module: str) -> Path:
    """Returns a module's file."""
    place = SOURCE / module.replace(".", "/")
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def exists(module: str) -> bool:
    """Says whether there is such a module of ours."""
    return file_of(module).is_file()


def relative(path: Path) -> str:
    """Returns a path as dvc.yaml writes it."""
    return path.relative_to(REPOSITORY).as_posix()


def write(path: Path) -> None:
    """Puts the code of every stage into the `deps` of a dvc.yaml; comments and all other deps stay."""
    text = re.sub(r"\n +- src/[^\n]*", "", path.read_text(encoding="utf-8"))
    for stage in STAGES:
        start = re.search(rf"^  {stage}:\n", text, re.MULTILINE)
        assert start, stage
        deps = re.compile(r"^( +)deps:\n((?:\1  - [^\n]*\n)*)", re.MULTILINE).search(text, start.end())
        assert deps, stage
        lines = "".join(f"{deps.group(1)}  - {name}\n" for name in code_of(stage))
        text = text[: deps.end()] + lines + text[deps.end() :]
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write(REPOSITORY / "dvc.yaml")
    else:
        for name in sys.argv[1:] or STAGES:
            print(f"{name}:\n" + "".join(f"        - {path}\n" for path in code_of(name)), end="")
