"""`isthmus init` and `isthmus upgrade` in real folders with real git and DVC."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isthmus import new_project
from isthmus.cli import serve, ui
from isthmus.core.code import code_lock
from isthmus.core.errors import ConfigError
from isthmus.new_project import FILES, init, template, upgrade
from isthmus.stages import code
from isthmus.stages._cli import stage
from isthmus.stages.select import run as select
from tests.repo import REPOSITORY

LOCK = code_lock.NAME


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A new project in a folder that was not there, of a user whom git does not know."""
    folder = tmp_path_factory.mktemp("new") / "steel"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
        for name in ("EMAIL", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
            patch.delenv(name, raising=False)
        return folder, init(folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of a new project, without git and DVC."""
    for path in FILES:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(template(path))
    code_lock.write_lock(tmp_path / LOCK, {path: code_hash(template(path)) for path in FILES if path != "params.yaml"})
    return tmp_path


def code_hash(text: str) -> str:
    return new_project._hash(text)


def older(project: Path, path: str, text: str) -> None:
    """Makes it look as if an older template had written a file."""
    document = code_lock.read_lock(project / LOCK)
    (project / path).write_text(text)
    code_lock.write_lock(project / LOCK, document["files"] | {path: code_hash(text)})


def test_a_new_project_is_a_git_repository_with_all_its_files_committed(made: tuple[Path, list[str]]) -> None:
    folder, lines = made

    assert set(git(folder, "ls-files").split()) == {*FILES, LOCK, ".dvc/.gitignore", ".dvc/config"}
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "--format=%an <%ae> %s") == "isthmus <isthmus@localhost> isthmus init\n"
    assert [line for line in lines if line.startswith("kept")] == []
    assert f"wrote {LOCK}" in lines
    assert (folder / ".dvcignore").read_text() == (REPOSITORY / ".dvcignore").read_text()
    assert "analytics = false" in (folder / ".dvc" / "config").read_text()


@pytest.mark.slow
def test_dvc_reads_the_graph_of_a_project_without_scenarios(made: tuple[Path, list[str]]) -> None:
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]

    assert subprocess.run(command, cwd=made[0], capture_output=True, text=True).stdout == "code\n"


def test_no_file_that_is_there_is_changed(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(made[0]), "clone")
    clone = tmp_path / "clone"
    (clone / "params.yaml").write_text("scenarios: {}\n")
    (clone / ".dvcignore").write_text("*.pyc\n")
    (clone / "prefect.yaml").unlink()
    (clone / "README.md").unlink()
    (clone / "README.md").symlink_to("elsewhere")

    lines = init(clone)

    assert {line for line in lines if not line.startswith("kept")} == {"wrote prefect.yaml"}
    assert "kept  .dvcignore, which lacks: __pycache__ .venv. Add these lines" in lines
    assert "kept  .gitignore" in lines
    assert (clone / "params.yaml").read_text() == "scenarios: {}\n"
    assert git(clone, "status", "--porcelain").split() == ["M", ".dvcignore", "T", "README.md", "M", "params.yaml"]
    assert len(git(clone, "log", "--oneline").splitlines()) == 1


def test_a_folder_of_a_repository_becomes_a_project_and_nothing_is_committed(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "notes.txt").write_text("mine")

    lines = init(tmp_path / "vision")

    assert (tmp_path / "vision" / ".dvc").is_dir()
    assert not [line for line in lines if line.startswith("git")]
    assert git(tmp_path, "rev-list", "--all") == ""
    assert "?? vision/dvc.yaml" in git(tmp_path, "status", "--porcelain")


def test_the_template_is_what_this_repository_runs_by() -> None:
    assert template("dvc.yaml").replace(LOCK, "src/isthmus") == (REPOSITORY / "dvc.yaml").read_text()
    assert yaml.safe_load(template("dvc.yaml"))["stages"]["code"]["deps"] == ["plugins", LOCK]
    shipped = yaml.safe_load((REPOSITORY / "params.yaml").read_text())

    assert yaml.safe_load(template("params.yaml")) == shipped | {"scenarios": {}, "pairs": {}}
    for name in new_project.examples():
        one = {"scenarios": {name: shipped["scenarios"][name]}, "pairs": {name: {}}}
        assert yaml.safe_load(template("params.yaml", name)) == shipped | one
    assert "POSTGRES" not in template(".env.example") and "MLFLOW_TRACKING_URI" in template(".env.example")


def test_the_wheel_carries_every_file_of_the_template() -> None:
    import tomllib

    wheel = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    carried = wheel["force-include"]

    for path in FILES.values():
        assert any(f"isthmus_template/{path}".startswith(to) for to in carried.values()), path
    assert {frm for frm, to in carried.items() if to.startswith("isthmus_template")} <= {"template", *FILES}


def test_the_ci_files_are_yaml_and_run_the_same_commands() -> None:
    github = yaml.safe_load(template(".github/workflows/isthmus.yml"))["jobs"]["reproduce"]["steps"]
    gitlab = yaml.safe_load(template(".gitlab-ci.yml"))["reproduce"]["script"]

    assert [step["run"] for step in github if "run" in step] == gitlab
    assert gitlab[1:4] == ["dvc pull", "isthmus check", "dvc repro"]


def test_the_development_container_installs_isthmus_and_forwards_the_ports_of_its_pages() -> None:
    lines = template(".devcontainer/devcontainer.json").splitlines()
    document = json.loads("\n".join(line for line in lines if not line.startswith("//")))

    ports = {inspect.signature(verb).parameters["port"].default for verb in (ui, serve)}
    assert document["postCreateCommand"].startswith('pip install "$ISTHMUS" && ')
    assert ports < set(document["forwardPorts"]) == {int(port) for port in document["portsAttributes"]}


def test_what_init_cannot_do_is_refused(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--example 'industral': no such pair. Did you mean 'industrial'"):
        init(tmp_path / "new", "industral")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match=rf"inside: lies in the project {made[0]}. Choose a folder outside it"):
        init(made[0] / "inside")
    with pytest.raises(ConfigError, match="is a clone of Isthmus, which is a project already"):
        init(REPOSITORY)
    for name, text, what in (("dvc.yaml", "stages: {fit: {}}", "stages.ingest"), ("params.yaml", "lr: 1", "scenarios")):
        (tmp_path / what).mkdir()
        (tmp_path / what / name).write_text(text)
        with pytest.raises(ConfigError, match=rf"{name}: belongs to something else, since it has no {what}. Isthmus"):
            init(tmp_path / what)
        assert [path.name for path in (tmp_path / what).iterdir()] == [name]
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file: cannot be written \(File exists\)"):
        init(tmp_path / "file")


def test_an_unchanged_template_changes_nothing(project: Path) -> None:
    (project / "README.md").write_text("my own\n")

    assert upgrade(project) == upgrade(project, write=True) == []
    assert (project / "README.md").read_text() == "my own\n"


def test_an_upgrade_shows_what_it_would_change_and_writes_it_when_told_to(project: Path) -> None:
    older(project, "dvc.yaml", "old: 1\n")
    document = code_lock.read_lock(project / LOCK)
    code_lock.write_lock(project / LOCK, {p: h for p, h in document["files"].items() if p != ".gitlab-ci.yml"})
    (project / ".gitlab-ci.yml").unlink()
    (project / "prefect.yaml").unlink()  # removed on purpose: its template is as it was
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    shown = upgrade(project)

    assert "-old: 1" in shown[0] and "+stages:" in shown[0]
    assert shown[1:] == [".gitlab-ci.yml: new"]
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    upgrade(project, write=True)

    assert (project / "dvc.yaml").read_text() == template("dvc.yaml")
    assert (project / ".gitlab-ci.yml").is_file() and not (project / "prefect.yaml").exists()
    assert upgrade(project) == []


def test_an_edited_file_is_kept_and_the_new_text_lies_beside_it(project: Path) -> None:
    older(project, "dvc.yaml", "old: 1\n")
    (project / "dvc.yaml").write_text("old: 1\nmine: 2\n")

    assert "dvc.yaml was edited here: --write keeps it and writes the new text beside it" in upgrade(project)
    assert "the new text is in dvc.yaml.new. Take over" in upgrade(project, write=True)[-1]
    assert (project / "dvc.yaml").read_text() == "old: 1\nmine: 2\n"
    assert (project / "dvc.yaml.new").read_text() == template("dvc.yaml")
    assert upgrade(project) == []


def test_a_section_that_params_lacks_is_shown(project: Path) -> None:
    document = yaml.safe_load((project / "params.yaml").read_text())
    del document["watch"]
    (project / "params.yaml").write_text(yaml.safe_dump(document))

    (line,) = upgrade(project, write=True)

    assert line.startswith("params.yaml: the template has a section more:\nwatch:")
    assert "  hours: 24" in line


def test_another_package_than_the_locks_is_refused_until_the_lock_is_renewed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = code_lock.installed()
    (project / LOCK).write_text((project / LOCK).read_text().replace(there["code"], "f" * 64))
    refused = (
        r"isthmus.lock: the results here are made by isthmus 0.1.0 \(ffffffff\), and isthmus 0.1.0 .* is installed"
    )
    monkeypatch.chdir(project)

    with pytest.raises(ConfigError, match=refused):
        code.run(package=Path(LOCK), plugins=Path("plugins"), out=Path("out/code"))
    with pytest.raises(SystemExit) as end:
        flags = ["--trained", "t", "--prepared", "p", "--manifest", "m", "--choice", "c"]
        stage(select, ["--params", "params.yaml", "--scenario", "x", *flags])
    assert end.value.code == 2
    assert "the results here are made by isthmus" in capsys.readouterr().err
    assert not Path("out").exists()

    assert upgrade(project, write=True) == [f"{LOCK}: isthmus 0.1.0 (ffffffff) -> isthmus 0.1.0 ({there['code'][:8]})"]
    code.run(package=Path(LOCK), plugins=Path("plugins"), out=Path("out/code"))


def test_a_lock_of_another_form_and_a_missing_one_are_refused(project: Path) -> None:
    (project / LOCK).write_text("package: 3\n")
    with pytest.raises(ConfigError, match=r"isthmus.lock: not as 'isthmus init' wrote it. Restore it from git"):
        code_lock.check(project / LOCK)

    (project / LOCK).unlink()
    with pytest.raises(ConfigError, match=r"isthmus.lock: no such file. 'isthmus init' writes it"):
        upgrade(project)
    code_lock.check(project / LOCK)  # a clone of Isthmus has none
