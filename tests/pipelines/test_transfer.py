"""The flow as a user starts it: a child process, with a temporary server of Prefect's or one that is up."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isthmus.core.errors import ConfigError
from tests.pipelines.tiny_project import REPOSITORY, locks_in, processes_in, runs, wait_until, write_project

TRANSFER = [sys.executable, "-m", "isthmus.cli", "run"]
GRAPH_ALONE = ["tiny", "--no-check", "--no-publish"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def environment(prefect_home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    return kept | {"PYTHONPATH": str(REPOSITORY), "PREFECT_HOME": str(prefect_home)}


def run(project: Path, prefect_home: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRANSFER, *arguments], cwd=project, env=environment(prefect_home) | extra, capture_output=True, text=True
    )


def lock_of(project: Path) -> object:
    return yaml.safe_load((project / "dvc.lock").read_text())


def test_the_flow_gives_the_same_lock_as_dvc_repro_and_then_all_is_cached(
    tmp_path: Path, prefect_home: Path, prefect_api: str
) -> None:
    by_flow, by_dvc = write_project(tmp_path / "flow"), write_project(tmp_path / "dvc")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    repro = [sys.executable, "-m", "dvc", "repro", "-q", "report@tiny"]
    subprocess.run(repro, cwd=by_dvc, env=os.environ | {"PATH": path}, check=True)

    first = run(by_flow, prefect_home, *GRAPH_ALONE, "--verbose")
    # this project does not pass the check, and with nothing to run nothing is checked
    second = run(by_flow, prefect_home, "tiny", "--no-publish", PREFECT_API_URL=prefect_api)

    assert first.returncode == 0, first.stderr
    assert lock_of(by_flow) == lock_of(by_dvc)
    assert "train@tiny-a: done in" in first.stderr
    assert "working on a" in first.stderr
    assert second.returncode == 0
    assert "tiny: 4 stages, 4 unchanged" in second.stderr
    assert sorted(runs(by_flow)) == ["a", "b", "first"]
    assert processes_in(by_flow) == []


def test_a_failed_stage_ends_the_flow_and_what_does_not_need_it_still_runs(
    tmp_path: Path, prefect_home: Path, prefect_api: str
) -> None:
    project = write_project(tmp_path)
    stage = (project / "stage.py").read_text()
    (project / "stage.py").write_text(stage.replace("print(", "if name == 'a': raise RuntimeError('no light')\nprint("))

    done = run(project, prefect_home, *GRAPH_ALONE, PREFECT_API_URL=prefect_api)

    assert done.returncode == 1
    begin, _, end = done.stderr.partition("\nerror: train@tiny-a")
    lines = [re.sub(r"[\d.:]+ (.*) in [\d.]+ s.*", r"\1", line) for line in begin.splitlines()]
    assert sorted(lines) == ["first: done", "train@tiny-a: failed", "train@tiny-b: done"]
    assert "RuntimeError: no light" in end
    assert "not run because of this: report@tiny" in end
    assert "b" in runs(project)
    assert "Encountered an exception" not in done.stderr


def test_a_mistake_of_the_user_is_one_message_and_status_2(
    tmp_path: Path, prefect_home: Path, prefect_api: str
) -> None:
    project = write_project(tmp_path)
    (project / "stage.py").write_text("print('error: params.yaml: seed: missing'); raise SystemExit(2)")

    done = run(project, prefect_home, *GRAPH_ALONE, "--quiet", PREFECT_API_URL=prefect_api)

    assert done.returncode == 2
    begin, _, end = done.stderr.partition("\nerror: ")
    assert len(begin.splitlines()) == 1  # Prefect's own line on the failed flow
    assert end.startswith("params.yaml: seed: missing\nnot run because of this: train@tiny-a")
    assert "Traceback" not in done.stderr


def test_an_unknown_scenario_is_one_message_and_status_2(tmp_path: Path, prefect_home: Path) -> None:
    done = run(write_project(tmp_path), prefect_home, "tinny", "--no-check", "--no-publish")

    assert done.returncode == 2
    assert done.stderr == (
        "error: params.yaml: no scenario 'tinny'. Did you mean 'tiny'? There are: tiny. Create one with"
        " 'isthmus add tinny --source DIR --target DIR --kind KIND' or 'isthmus fetch tinny'\n"
    )


def test_a_graph_that_dvc_cannot_read_is_reported_with_every_other_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.transfer import look  # Prefect takes a second, which collecting need not

    monkeypatch.chdir(write_project(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    Path("dvc.yaml").write_text("stages: {report: {}}\n")

    with pytest.raises(ConfigError, match="params.yaml: section"):
        look(["tiny"], check=True).graph.result()
    with pytest.raises(ConfigError, match="dvc.yaml"):
        look(["tiny"], check=False).graph.result()


def test_the_check_comes_first_and_stops_the_flow_with_its_own_message(
    tmp_path: Path, prefect_home: Path, prefect_api: str
) -> None:
    project = write_project(tmp_path)

    done = run(project, prefect_home, "tiny", "--no-publish", PREFECT_API_URL=prefect_api)

    assert done.returncode == 2
    assert "error: " in done.stderr
    assert "params.yaml: section" in done.stderr
    assert "Traceback" not in done.stderr
    assert runs(project) == []


def test_results_that_cannot_be_published_are_not_lost(tmp_path: Path, prefect_home: Path, prefect_api: str) -> None:
    project = write_project(tmp_path, git=True)

    done = run(
        project, prefect_home, "tiny", "--no-check", MLFLOW_TRACKING_URI="file:nowhere", PREFECT_API_URL=prefect_api
    )

    assert done.returncode == 1
    assert "error: tiny: the results are complete (out/tiny), but they could not be published:" in done.stderr
    assert done.stderr.splitlines()[-1] == "Then run 'isthmus publish tiny'"
    assert (project / "tiny.md").read_text() == "1a1b"


def start(project: Path, prefect_home: Path, **extra: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TRANSFER, *GRAPH_ALONE], cwd=project, env=environment(prefect_home) | extra, stderr=subprocess.PIPE, text=True
    )


def test_whoever_edits_params_during_a_run_changes_the_next_one_and_a_second_run_is_told_of_the_first(
    tmp_path: Path, prefect_home: Path, prefect_api: str
) -> None:
    project = write_project(tmp_path, seconds=120)
    text = "scenarios: {tiny: {}}\nmethods: {a: {}, b: {}}\nseed: 1\n"
    (project / "params.yaml").write_text(text)
    read = "import pathlib, isthmus.core.params.yaml_file as y; print(y.read_yaml(pathlib.Path('params.yaml')))"
    document = yaml.safe_load((project / "dvc.yaml").read_text())
    # a stage that DVC gives values, that depends on values, and that reads the file itself, after the edit
    document["stages"]["report"]["do"] |= {"cmd": f'python -c "{read}" > ${{key}}.md && echo ${{seed}} >> ${{key}}.md'}
    document["stages"]["report"]["do"]["params"] = ["seed"]
    (project / "dvc.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    first = start(project, prefect_home, PREFECT_API_URL=prefect_api)
    wait_until(lambda: (project / "started_a").exists(), "a stage", 120)

    second = run(project, prefect_home, *GRAPH_ALONE, PREFECT_API_URL=prefect_api)
    (project / "params.yaml").write_text("scenarios: {other: {}}\nmethods: {c: {}}\nseed: [\n")
    (project / "go").touch()
    said = first.communicate(timeout=200)[1]

    assert second.returncode == 2
    assert "error: tiny: a run of it is under way (process " in second.stderr
    assert first.returncode == 0, said
    assert said.splitlines()[-2:] == ["tiny: 4 stages, 0 unchanged", "report: out/tiny/report/report.html"]
    assert (project / "tiny.md").read_text().splitlines() == [str(yaml.safe_load(text)), "1"]
    assert lock_of(project)["stages"]["report@tiny"]["params"] == {"params.yaml": {"seed": 1}}
    assert (project / "params.yaml").read_text().startswith("scenarios: {other")


def test_what_a_killed_dvc_left_half_written_stops_no_run(tmp_path: Path, prefect_home: Path, prefect_api: str) -> None:
    project = write_project(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "-q"], cwd=project, env=os.environ | {"PATH": path}, check=True
    )
    table, lock = project / ".dvc" / "tmp" / "rwlock", project / "dvc.lock"
    whole = lock.read_text()
    table.write_text("")
    lock.write_text(whole[:-40])

    done = run(project, prefect_home, *GRAPH_ALONE, PREFECT_API_URL=prefect_api)

    assert done.returncode == 0, done.stderr
    assert "cleared: " in done.stderr
    assert lock_of(project) == yaml.safe_load(whole)
    assert sorted(runs(project)) == ["a", "b", "first"]  # what was lost came out of the cache of runs


def test_a_server_that_does_not_answer_is_named(tmp_path: Path, prefect_home: Path) -> None:
    address = "http://127.0.0.1:9/api"  # the discard port: nobody listens

    done = run(write_project(tmp_path), prefect_home, *GRAPH_ALONE, PREFECT_API_URL=address)

    assert done.returncode == 1
    assert f"Start the server at {address}, or unset PREFECT_API_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "victim",
    [
        # in `make soak`, with the campaign of kills: half a minute each
        *(pytest.param(who, marks=pytest.mark.soak) for who in ("dvc", "stage", "command", "flow")),
    ],
)
def test_a_killed_run_leaves_nothing_and_the_next_one_ends_the_same(
    tmp_path: Path, prefect_home: Path, victim: str
) -> None:
    project = write_project(tmp_path / "project", seconds=60)
    command = subprocess.Popen(
        [*TRANSFER, *GRAPH_ALONE], cwd=project, env=environment(prefect_home), stderr=subprocess.DEVNULL
    )
    wait_until(lambda: (project / "started_a").exists() and (project / "started_b").exists(), "both stages", 120)
    lines = sorted(processes_in(project), key=lambda line: int(line.split()[0]))
    # of the processes that bear the command line of `isthmus run` the oldest is the supervisor, the youngest the flow
    own = [line for line in lines if "-m isthmus.cli run" in line]
    chosen = {
        "command": own[0],
        "flow": own[-1],
        "dvc": next(line for line in lines if "dvc_process.py" in line and "supervisor.py" not in line),
        "stage": next(line for line in lines if "stage.py a" in line),
    }[victim]

    os.kill(int(chosen.split()[0]), signal.SIGKILL)
    if victim in ("dvc", "stage"):
        (project / "go").touch()  # the other stage goes on: it need not be waited out

    assert command.wait(60) != 0
    wait_until(lambda: processes_in(project) == [], f"nothing to be left after {chosen}", 15)
    (project / "go").touch()
    again = run(project, prefect_home, *GRAPH_ALONE)
    assert again.returncode == 0, again.stderr
    assert (project / "tiny.md").read_text() == "1a1b"
    assert not locks_in(project)
    assert processes_in(project) == []
