"""One fingerprint of the code that a stage uses: a hash of the syntax trees of all modules that it reaches by imports.

A syntax tree without docstrings changes with what the code does, and not with comments, docstrings or formatting.
Imports inside functions count, and so do the `__init__.py` of each package on the way and the files beside a module
that it names in a string (templates). The walk reads the files of the package that is imported, in a repository or
installed, and runs none of them: torch is not loaded. A project's own plugins count like those that are shipped.
"""

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import isthmus
from isthmus.core import plugins
from isthmus.core.files import hash_files, sha256_bytes
from isthmus.core.names import CODE

ROOT = Path(isthmus.__file__).parent

# stage -> plugin folder of which the stage's key in dvc.yaml names one
NAMED_PLUGIN = {"simulate": "data.pairs", "prepare": "data.kinds", "train": "adapt.methods"}
# stage -> plugin folders of which it may load any
ALL_PLUGINS = {
    "ingest": ["data.readers", "data.tasks"],
    "prepare": ["data.readers", "data.tasks", "models.backbones"],
    "pretrain": ["models.backbones"],
    "embed": ["models.backbones"],
    "train": ["models.backbones"],
    "explain": ["models.backbones"],
    "robustness": ["models.backbones"],
    "select": ["evaluation.validators", "evaluation.guards"],
    "evaluate": ["evaluation.tasks"],
    "report": ["report.tasks"],
}
_BODIES = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_LOOK_UPS = {"load", "names", "plugin"}  # of core/plugins.py and core/config.py: their first argument is a folder


@dataclass(frozen=True)
class Module:
    """What counts of one module: the hash of its code and data, and the modules of ours that it names."""

    digest: str
    imports: frozenset[str]


class Code:
    """The modules of the package, each read once.

    Args:
        root: folder of the package `isthmus`.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._read: dict[str, Module] = {}

    def fingerprints(self) -> dict[str, str]:
        """Returns the fingerprint of each stage, by `STAGE`, or `STAGE/PLUGIN` where the stage's key names a plugin."""
        found: dict[str, str] = {}
        for stage in self.stages():
            if stage in NAMED_PLUGIN:
                names = [plugin.rpartition(".")[2] for plugin in self.plugins(NAMED_PLUGIN[stage])]
                found |= {f"{stage}/{name}": self.fingerprint(stage, name) for name in names}
            elif stage != CODE:  # writes the fingerprints; no stage depends on its code
                found[stage] = self.fingerprint(stage)
        return found

    def fingerprint(self, stage: str, plugin: str = "") -> str:
        """Returns the fingerprint of a stage in hex.

        Args:
            stage: name of its module.
            plugin: the pair of `simulate`, kind of `prepare` or method of `train`; empty for all other stages.
        """
        used = sorted(self.modules(stage, plugin))
        return sha256_bytes("".join(f"{name} {self._module(name).digest}\n" for name in used).encode())

    def modules(self, stage: str, plugin: str = "") -> set[str]:
        """Returns the modules that a stage may load; see `fingerprint`."""
        start = [f"isthmus.stages.{stage}"]
        if plugin:
            start.append(f"isthmus.{NAMED_PLUGIN[stage]}.{plugin}")
        for folder in ALL_PLUGINS.get(stage, []):
            start += self.plugins(folder)
        return self.reachable(start)

    def reachable(self, start: Iterable[str]) -> set[str]:
        """Returns the modules, all that they import within isthmus, and the packages that these lie in."""
        found: set[str] = set()
        pending = list(start)
        while pending:
            name = pending.pop()
            if name not in found:
                found.add(name)
                parents = [name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)]
                pending += [*parents, *self._module(name).imports]
        return found

    def stages(self) -> list[str]:
        """Returns the names of all stages."""
        return sorted(path.stem for path in (self._root / "stages").glob("[a-z]*.py"))

    def plugins(self, folder: str) -> list[str]:
        """Returns the modules of a plugin folder such as `adapt.methods`."""
        files = self._root.joinpath(*folder.split(".")).glob("[a-z]*.py")
        return sorted(f"isthmus.{folder}.{name}" for name in {*(f.stem for f in files), *plugins.own_names(folder)})

    def file(self, module: str) -> Path:
        """Returns the file of a module, which may not exist."""
        place = self._root.joinpath(*module.split(".")[1:])
        shipped = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        own = None if shipped.is_file() else plugins.own_file(module)
        return own if own is not None and own.is_file() else shipped

    def _module(self, name: str) -> Module:
        if name not in self._read:
            self._read[name] = self._parsed(name)
        return self._read[name]

    def _parsed(self, name: str) -> Module:
        path = self.file(name)
        source = path.read_bytes()
        try:
            tree = _read_tree(source)
        except (SyntaxError, ValueError):  # it cannot be imported either: whoever imports it reports that
            return Module(sha256_bytes(source), frozenset())
        data = hash_files(_data_beside(path, tree.texts))
        imports = tree.modules | {module for module in tree.perhaps if self.file(module).is_file()}
        return Module(sha256_bytes(f"{tree.dump} {data}".encode()), imports)


@dataclass(frozen=True)
class _Tree:
    """What counts of a module's source.

    Attributes:
        dump: the tree without docstrings.
        texts: all strings in it.
        modules: those of ours that imports name.
        perhaps: names that are modules or packages of ours where there is a file: taken from one of these modules, or
            looked up as a plugin folder.
    """

    dump: str
    texts: frozenset[str]
    modules: frozenset[str]
    perhaps: frozenset[str]


@functools.cache  # by content: a process that runs several stages parses each module once
def _read_tree(source: bytes) -> _Tree:
    tree = ast.parse(source)
    nodes = _without_docstrings(tree)
    texts = frozenset(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
    modules, perhaps = set(), set()
    for node in nodes:
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            if called in _LOOK_UPS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                perhaps.add(f"isthmus.{first.value}")
            continue
        for module, attributes in import_statements(node):
            if module.partition(".")[0] == "isthmus":
                modules.add(module)
                perhaps |= {f"{module}.{attribute}" for attribute in attributes}
    return _Tree(ast.dump(tree), texts, frozenset(modules), frozenset(perhaps))


def import_statements(node: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Yields each module that an import names, and the names taken from it; the house writes imports in full."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, []) for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module, [alias.name for alias in node.names]


def _without_docstrings(tree: ast.AST) -> list[ast.AST]:
    """Takes the docstrings out of a tree and returns all nodes that are left, in one pass."""
    nodes = [tree]
    for node in nodes:  # grows while it is gone through
        if isinstance(node, _BODIES):
            node.body = [statement for statement in node.body if not _is_text(statement)]
        nodes.extend(ast.iter_child_nodes(node))
    return nodes


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _data_beside(path: Path, texts: frozenset[str]) -> list[Path]:
    """Returns files and folders without code beside a module whose names it holds, alone or before a '/'."""
    firsts = {text.partition("/")[0] for text in texts} - {"__pycache__"}
    beside = sorted(other for other in path.parent.iterdir() if other.name in firsts and other.suffix != ".py")
    return [other for other in beside if other.is_file() or not any(other.rglob("*.py"))]
