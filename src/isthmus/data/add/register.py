"""A new pair becomes part of the project: a section in `params.yaml`, and its raw folder under DVC."""

import io
import os
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from isthmus.core.config import read_yaml
from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.files import write_text
from isthmus.core.locks import DVC_LOCK, flocked
from isthmus.core.process.dvc_process import DVC
from isthmus.core.process.environment import QUIET
from isthmus.core.process.failures import other_words

_SECONDS_TO_WAIT = 120.0  # for dvc, which holds its lock for seconds, but for a stage that it runs


def has_section(params: Path, name: str) -> bool:
    """Returns whether `params.yaml` has a scenario of this name.

    Raises:
        ConfigError: the file is missing or not YAML, or has no mapping `scenarios`.
    """
    scenarios = read_yaml(params).get("scenarios")
    if scenarios is not None and not isinstance(scenarios, dict):
        raise ConfigError(f"{params}: 'scenarios' must be a mapping of names (got {type(scenarios).__name__})")
    return name in (scenarios or {})


def add_section(params: Path, name: str, section: dict[str, Any]) -> None:
    """Adds a scenario at the end of `scenarios:`; everything else in the file stays as it is, to the byte.

    Raises:
        ConfigError: the file cannot be used.
    """
    with ExitStack() as stack:
        if (params.parent / ".dvc").is_dir():
            # `dvc exp run` puts the last commit's params.yaml into its place for a while, and empties the file
            stack.enter_context(flocked(params.parent / DVC_LOCK, _SECONDS_TO_WAIT))
        if not has_section(params, name):
            write_text(params, with_section(params, name, section))


def with_section(params: Path, name: str, section: dict[str, Any]) -> str:
    """Returns the text of `params.yaml` with one scenario more.

    Raises:
        ConfigError: the file cannot be used, or is laid out so that the section must be added by hand.
    """
    text = params.read_text(encoding="utf-8")
    document = YAML().load(text)
    scenarios = document.get("scenarios")
    none = re.search(r"(?m)^scenarios:[ \t]*(?:\{\}|null|~)?[ \t]*(#.*)?$", text)
    if not scenarios and none:
        head = " ".join(filter(None, ["scenarios:", none.group(1)]))
        block = "".join(f"  {line}\n" for line in _dumped({name: _mapped(section)}).splitlines())
        text = f"{text[: none.start()]}{head}\n{block.rstrip()}{text[none.end() :]}"
    elif not isinstance(scenarios, CommentedMap) or not scenarios or scenarios.fa.flow_style():
        text = _with_new_block(document, name, section)
    else:
        # Lines are inserted, the document is not dumped again: a dump would move comments and break long lines.
        lines = text.splitlines(keepends=True)
        below = [
            document.lc.key(key)[0] for key in document if document.lc.key(key)[0] > document.lc.key("scenarios")[0]
        ]
        end = min(below, default=len(lines))
        while end and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
            end -= 1
        if not lines[end - 1].endswith("\n"):
            lines[end - 1] += "\n"
        indent = " " * scenarios.lc.key(next(iter(scenarios)))[1]
        lines.insert(
            end, "".join(indent + line for line in _dumped({name: _mapped(section)}).splitlines(keepends=True))
        )
        text = "".join(lines)
    expected = read_yaml(params)
    expected["scenarios"] = {**(expected.get("scenarios") or {}), name: section}
    if yaml.safe_load(text) != expected:
        raise ConfigError(f"{params}: cannot add 'scenarios.{name}' to a file laid out like this. Add it by hand")
    return text


def dvc_add(project: Path, folder: Path) -> None:
    """Puts a folder under DVC, in a child process, and waits for its lock where another process holds it.

    Raises:
        StoreError: DVC refused, with its own words.
        ConfigError: DVC will not find the folder's pointer.
    """
    done = _dvc(project, "--wait-for-lock", "add", folder.as_posix())
    if done.returncode:
        words = other_words(done.stderr or done.stdout) or f"exit status {done.returncode}"
        raise StoreError(f"{folder}: 'dvc add' failed in {project}: {words}. Correct it and run the same command again")
    # Not only whether dvc could add it: whether `dvc push` and `dvc gc` will find it.
    seen = _dvc(project, "ls", "--dvc-only", ".", folder.parent.as_posix())
    if folder.name not in seen.stdout.splitlines():
        raise ConfigError(hidden_pointer(folder))


def _dvc(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*DVC, *arguments], cwd=project, env=os.environ | QUIET, capture_output=True, text=True, check=False
    )


def hidden_pointer(folder: Path) -> str:
    """Returns what to say of a raw folder whose pointer dvc does not find when it is asked about the whole project."""
    return (
        f"{folder}.dvc: DVC does not look for pointers in {folder.parent}, because git ignores that folder: 'dvc push'"
        " would leave the images out, and 'dvc gc -w' would delete them. In .gitignore, write"
        f" '/{folder.parent}/?*' and '!/{folder.parent}/*.dvc' in place of the line that hides it, then run the same"
        " command again"
    )


def _with_new_block(document: Any, name: str, section: dict[str, Any]) -> str:
    document["scenarios"] = CommentedMap({**(document.get("scenarios") or {}), name: _mapped(section)})
    return _dumped(document)


def _mapped(section: dict[str, Any]) -> CommentedMap:
    """Returns the section with its lists and options in flow style, as the shipped file writes them."""
    out = CommentedMap()
    for key, value in section.items():
        out[key] = _quoted(value)  # a folder can be called anything, and so can a class or a domain
        if isinstance(value, list):
            out[key] = CommentedSeq(map(_quoted, value))
            out[key].fa.set_flow_style()
        elif isinstance(value, dict):
            out[key] = CommentedMap(value)
            out[key].fa.set_flow_style()
    return out


def _quoted(value: Any) -> Any:
    # ruamel writes YAML 1.2, where a class named `no` needs no quotes; PyYAML reads 1.1, where it is False
    if not isinstance(value, str) or (re.fullmatch(r"[A-Za-z][\w./+-]*", value) and yaml.safe_load(value) == value):
        return value
    return DoubleQuotedScalarString(value)


def _dumped(value: Any) -> str:
    writer = YAML()
    writer.width = 10_000
    stream = io.StringIO()
    writer.dump(value, stream)
    return stream.getvalue()
