"""A project in a folder of its own: what `isthmus init` writes, and what a newer template would change.

The template is what Isthmus's own repository runs by: `dvc.yaml`, `params.yaml` and so on lie there once, and the wheel
carries them as `isthmus_template`. Three differ: the graph watches `isthmus.lock` in place of the source,
`params.yaml` begins without scenarios, and `prefect.yaml` without schedules.
"""

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from isthmus.core.code import code_lock
from isthmus.core.code.code_lock import PACKAGE
from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.files import sha256_bytes, write_text
from isthmus.core.params.yaml_file import read_yaml
from isthmus.core.plugins import did_you_mean
from isthmus.core.process.children import run_child
from isthmus.core.process.dvc_process import DVC
from isthmus.core.process.environment import QUIET
from isthmus.core.process.failures import other_words
from isthmus.core.project import MARKS
from isthmus.registry.lineage.git import run_git

PARAMS = "params.yaml"
# path in a project -> where the repository of Isthmus has it
FILES = {
    PARAMS: PARAMS,
    "dvc.yaml": "dvc.yaml",
    "prefect.yaml": "prefect.yaml",
    ".dvcignore": ".dvcignore",
    ".dvc/plots/bars.json": ".dvc/plots/bars.json",
    ".dvc/plots/lines.json": ".dvc/plots/lines.json",
    ".dvc/plots/shares.json": ".dvc/plots/shares.json",
    ".gitignore": ".gitignore",
    ".env.example": ".env.example",
    "data/labels/README.md": "data/labels/README.md",
    "plugins/README.md": "plugins/README.md",
    "README.md": "template/README.md",
    ".github/workflows/isthmus.yml": "template/github.yml",
    ".gitlab-ci.yml": "template/gitlab-ci.yml",
    ".devcontainer/devcontainer.json": "template/devcontainer.json",
}
_EXAMPLES = ("scenarios", "pairs")  # sections of `params.yaml` that hold the simulated pairs


def template(path: str, example: str | None = None) -> str:
    """Returns the text of a file of a new project.

    Args:
        path: one of `FILES`.
        example: a simulated pair whose scenario `params.yaml` keeps.
    """
    text = (_home() / FILES[path]).read_text(encoding="utf-8")
    if path == "dvc.yaml":
        text = text.replace("src/isthmus", code_lock.NAME)
    if path == ".env.example":
        text = "\n\n".join(part for part in text.split("\n\n") if not part.startswith("# compose.yaml"))
    if path == "prefect.yaml":  # its deployments are of a scenario that the project does not have
        text = re.sub(r"(?ms)^deployments:.*", "deployments: []\n", text)
    if path == PARAMS:
        for section in _EXAMPLES:
            text = re.sub(rf"(?m)^{section}:.*\n((?:  .*\n)+)", lambda m: _kept(m, example), text)
    return text


def _kept(section: re.Match[str], example: str | None) -> str:
    """Returns a section with the entry of one name, or empty."""
    head, _, _ = section.group(0).partition("\n")
    entry = re.search(rf"(?m)^  {example}:.*\n(?:    .*\n)*", section.group(1)) if example else None
    name, _, comment = head.partition(":")
    return f"{head}\n{entry.group(0)}" if entry else f"{name}: {{}}{comment}\n"


def _home() -> Path:
    repository = PACKAGE.parents[1]
    return repository if (repository / "pyproject.toml").is_file() else PACKAGE.parent / "isthmus_template"


def examples() -> list[str]:
    """Returns the names of the simulated pairs that `isthmus init --example` takes."""
    text = (_home() / PARAMS).read_text(encoding="utf-8")
    section = re.search(r"(?m)^pairs:.*\n((?:  .*\n)+)", text)
    assert section
    return re.findall(r"(?m)^  (\w+):", section.group(1))


def init(folder: Path, example: str | None = None) -> list[str]:
    """Makes a folder a project and returns what was done, one line each; a file that is there is never changed.

    Args:
        folder: made where it is missing. In a clone of a project only what is missing is made.
        example: a simulated pair to begin with; None: no scenario.

    Raises:
        ConfigError: the example is unknown, the folder lies in another project, or it cannot be written.
        StoreError: git or DVC refused.
    """
    if example is not None and example not in examples():
        there = ", ".join(examples())
        raise ConfigError(f"--example '{example}': no such pair.{did_you_mean(example, examples())} There are: {there}")
    folder = folder.absolute()
    _check_place(folder)
    lines = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = not any((above / ".git").exists() for above in (folder, *folder.parents))
        if new:
            run_git(folder.parent, "init", "--quiet", "--initial-branch=main", str(folder))
            lines.append("git: made a repository")
        written = list(_write(folder, [path for path in FILES if not path.startswith(".dvc/")], example))
        if not (folder / ".dvc").is_dir():  # after `.dvcignore`, of which DVC makes an empty one where there is none
            _dvc(folder, "init", "--quiet", *([] if (folder / ".git").exists() else ["--subdir"]))
            _dvc(folder, "config", "core.analytics", "false")
            lines.append("dvc: made .dvc")
        written += _write(folder, [path for path in FILES if path.startswith(".dvc/")], example)
        if not (folder / code_lock.NAME).exists():
            hashes = {path: _hash(template(path)) for path in FILES if path != PARAMS}
            code_lock.write_lock(folder / code_lock.NAME, hashes)
            written.append((code_lock.NAME, True))
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: cannot be written ({error.strerror})") from None
    lines += [f"wrote {path}" if fresh else f"kept  {path}{_lacking(folder, path)}" for path, fresh in written]
    if new:
        _commit(folder)
        lines.append("git: committed these files")
    return lines


def _check_place(folder: Path) -> None:
    for above in folder.parents:
        if all((above / mark).is_file() for mark in MARKS):
            raise ConfigError(f"{folder}: lies in the project {above}. Choose a folder outside it")
    if (folder / "src" / "isthmus").is_dir():
        raise ConfigError(f"{folder}: is a clone of Isthmus, which is a project already. Choose another folder")
    for path, section, entry in (("dvc.yaml", "stages", "ingest"), (PARAMS, "scenarios", "")):
        if not (folder / path).is_file():
            continue
        document = read_yaml(folder / path)
        if section not in document or (entry and entry not in (document[section] or {})):
            raise ConfigError(
                f"{folder / path}: belongs to something else, since it has no {section}{entry and f'.{entry}'}. Isthmus"
                " needs a folder of its own: 'isthmus init DIR'"
            )


def _write(folder: Path, paths: Iterable[str], example: str | None) -> Iterator[tuple[str, bool]]:
    for path in paths:
        target = folder / path
        fresh = not target.exists() and not target.is_symlink()
        if fresh:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, template(path, example))
        yield path, fresh


def _lacking(folder: Path, path: str) -> str:
    """Returns which patterns a list of ignored files lacks: results and stores would come under git."""
    if path not in (".gitignore", ".dvcignore"):
        return ""
    there = (folder / path).read_text(encoding="utf-8").splitlines()
    wanted = [line for line in template(path).splitlines() if line and not line.startswith("#")]
    lines = [line for line in wanted if line not in there]
    return f", which lacks: {' '.join(lines)}. Add these lines" if lines else ""


def _commit(folder: Path) -> None:
    """Commits what is in a repository that was made just now: a model's lineage begins with a commit."""
    who = {}
    try:
        run_git(folder, "var", "GIT_AUTHOR_IDENT")
    except StoreError:  # git knows no name or address of the user
        who = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER")
               for field, value in (("NAME", "isthmus"), ("EMAIL", "isthmus@localhost"))}  # fmt: skip
    run_git(folder, "add", *FILES, code_lock.NAME, ".dvc")
    run_git(folder, "commit", "--quiet", "-m", "isthmus init", **who)


def upgrade(project: Path, write: bool = False) -> list[str]:
    """Returns what the template of the installed package would change in a project, one text a file.

    Args:
        project: its root.
        write: change the files that were not edited since; beside an edited one the new text is written
            as `NAME.new`. `params.yaml` is the user's and stays.

    Raises:
        ConfigError: the project has no `isthmus.lock`.
    """
    lock = project / code_lock.NAME
    if not lock.is_file():
        raise ConfigError(f"{lock}: no such file. 'isthmus init' writes it; a clone of Isthmus is upgraded by git")
    before = code_lock.read_lock(lock)
    lines = []
    if before["package"] != code_lock.installed():
        lines.append(
            f"{code_lock.NAME}: {code_lock.shown(before['package'])} -> {code_lock.shown(code_lock.installed())}"
        )
    hashes: dict[str, str] = before["files"]
    for path in FILES:
        if path != PARAMS:
            lines += _upgraded(project, path, hashes.get(path), write)
    lines += _new_sections(project / PARAMS)
    if write:
        code_lock.write_lock(lock, {path: _hash(template(path)) for path in FILES if path != PARAMS})
    return lines


def _upgraded(project: Path, path: str, recorded: str | None, write: bool) -> list[str]:
    target, new = project / path, template(path)
    if recorded == _hash(new):
        return []  # the template is as it was
    if not target.is_file():
        if recorded is not None:
            return []  # it was removed on purpose
        if write:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, new)
        return [f"{path}: {'written' if write else 'new'}"]
    old = target.read_text(encoding="utf-8")
    if old == new:
        return []
    edited = _hash(old) != recorded
    if write:
        write_text(target.with_name(f"{target.name}.new") if edited else target, new)
    done = f"{path} was edited here: " + (f"the new text is in {path}.new. Take over what you want of it" if write else
                                          "--write keeps it and writes the new text beside it")  # fmt: skip
    difference = "".join(
        difflib.unified_diff(old.splitlines(True), new.splitlines(True), path, f"{path} of the template")
    )
    return [difference.rstrip("\n"), *([done] if edited else [])]


def _new_sections(params: Path) -> list[str]:
    """Returns the sections that the template's `params.yaml` has and the project's lacks, as text."""
    document = read_yaml(params)
    text = template(PARAMS)
    blocks = re.findall(r"(?m)^((\w+):.*\n(?:  .*\n)*)", text)
    return [
        f"{PARAMS}: the template has a section more:\n{block.rstrip()}"
        for block, name in blocks
        if name not in document
    ]


def _dvc(folder: Path, *arguments: str) -> None:
    done = run_child([*DVC, *arguments], folder, os.environ | QUIET)
    if done.status:
        raise StoreError(f"'dvc {' '.join(arguments)}' failed in {folder}: {other_words(done.err or done.out)}")


def _hash(text: str) -> str:
    return sha256_bytes(text.encode())
