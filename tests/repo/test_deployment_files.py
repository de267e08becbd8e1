"""Dockerfile, compose.yaml, prefect.yaml, .env.example and .ci/run against the project and against hard rules."""

import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipelines.tiny_project import wait_until
from tests.repo import REPOSITORY
from tests.repo.deployment_rules import (
    compose_complaints,
    copied_paths,
    dockerfile_complaints,
    image_complaints,
    instructions,
    is_sent,
    variables,
)

BIN = Path(sys.executable).parent
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
DOCKERIGNORE = (REPOSITORY / ".dockerignore").read_text()
COMPOSE_TEXT = (REPOSITORY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
PREFECT: dict[str, Any] = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
CI = REPOSITORY / ".ci" / "run"


def json_list(text: str) -> list[str]:
    words: list[str] = json.loads(text[text.index("[") :])
    return words


def commands() -> list[tuple[str, list[str]]]:
    """Every command that a container runs, with the place that names it."""
    found = [
        (f"Dockerfile {i.name}", json_list(i.text))
        for i in instructions(DOCKERFILE)
        if i.name in ("CMD", "HEALTHCHECK")
    ]
    for name, service in COMPOSE["services"].items():
        if name != "postgres" and "command" in service:
            words = service["command"]
            parts = re.split(r"&&", words[2]) if words[:1] == ["sh"] else [" ".join(words)]
            found += [(f"compose.yaml {name}", part.split()) for part in parts]
    return found


def test_the_dockerfile_keeps_the_rules() -> None:
    assert dockerfile_complaints(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("USER isthmus", "USER root", "runs as root"),
        ("USER isthmus", "", "runs as root"),
        ("python:3.11.13-slim-bookworm", "python:latest", "not pinned"),
        ("python:3.11.13-slim-bookworm", "python", "not pinned"),
        ("HEALTHCHECK", "# HEALTHCHECK", "no HEALTHCHECK"),
        ("--require-hashes -r .ci/hashes/uv.lock", "uv", "pip install without versions"),
        ("--no-cache ", "", "cache stays"),
        ("--no-install-recommends", "", "no-install-recommends"),
        ("--from=build", "--from=builder", "no stage 'builder'"),
        ("ARG DEVICE=cpu", "ARG DEVICE=cpu\nARG INDEX_TOKEN", "a secret as build argument"),
        ("ARG TORCH_INDEX=", "ARG TORCH_INDEX=https://somewhere.example/cpu", "names a host"),
        ('CMD ["prefect", ', "CMD prefect ", "shell form"),
        ("WORKDIR /build", "WORKDIRS /build", "unknown instruction WORKDIRS"),
    ],
)
def test_a_dockerfile_that_breaks_a_rule_is_refused(old: str, new: str, complaint: str) -> None:
    assert old in DOCKERFILE

    assert any(complaint in line for line in dockerfile_complaints(DOCKERFILE.replace(old, new)))


def test_every_path_that_is_copied_exists_is_tracked_and_is_sent_to_the_build() -> None:
    paths = copied_paths(DOCKERFILE)

    assert {"src", "pipelines", "plugins", "template", "params.yaml", "dvc.yaml", "requirements.lock"} <= set(paths)
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert [path for path in paths if not is_sent(path, DOCKERIGNORE)] == []


@pytest.mark.parametrize(
    "path", [".env", ".git/config", ".dvc/config.local", ".dvc/cache/files", "data/raw/steel", "mlflow.db"]
)
def test_secrets_and_data_are_not_sent_to_the_build(path: str) -> None:
    assert not is_sent(path, DOCKERIGNORE)


def test_the_image_has_the_same_uv_and_python_as_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()

    assert re.findall(r"uv==[\d.]+", DOCKERFILE) == re.findall(r"uv==[\d.]+", makefile)
    assert f"python:{sys.version_info[0]}.{sys.version_info[1]}." in DOCKERFILE


def test_compose_keeps_the_rules() -> None:
    assert compose_complaints(COMPOSE) == []


def changed(service: str, key: str, value: Any) -> dict[str, Any]:
    services = {**COMPOSE["services"], service: {**COMPOSE["services"][service], key: value}}
    return {**COMPOSE, "services": services}


@pytest.mark.parametrize(
    ("compose", "complaint"),
    [
        (changed("mlflow", "ports", ["5000:5000"]), "open to other machines"),
        (changed("mlflow", "image", "isthmus:latest"), "not pinned"),
        (changed("mlflow", "volumes", ["artefacts:/artifacts"]), "no volume 'artefacts'"),
        (changed("postgres", "configs", [{"source": "tables"}]), "no config 'tables'"),
        (
            changed("postgres", "environment", {"POSTGRES_PASSWORD": "secret"}),
            "POSTGRES_PASSWORD is written into the file",
        ),
        (changed("mlflow", "environment", {"URI": "postgresql://isthmus:secret@postgres/mlflow"}), "holds a password"),
        (
            changed("worker", "depends_on", {"server": {"condition": "service_healthy"}}),
            "'server', which is no service",
        ),
        (changed("worker", "depends_on", {"prefect": {"condition": "service_started"}}), "does not wait for 'prefect'"),
        (changed("prefect", "healthcheck", {}), "waits for 'prefect' to be healthy"),
        (changed("worker", "privileged", True), "rights of the host"),
    ],
)
def test_a_compose_file_that_breaks_a_rule_is_refused(compose: dict[str, Any], complaint: str) -> None:
    assert any(complaint in line for line in compose_complaints(compose))


@pytest.mark.parametrize("image", ["postgres", "postgres:latest", "postgres:17", "python:slim"])
def test_an_image_without_a_version_is_refused(image: str) -> None:
    assert image_complaints(image)


def test_what_compose_takes_from_the_environment_stands_in_the_example_or_is_a_build_argument() -> None:
    example = set(re.findall(r"^#?([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))
    arguments = {i.text.partition("=")[0] for i in instructions(DOCKERFILE) if i.name == "ARG"}

    assert variables(COMPOSE_TEXT) <= example | arguments
    assert set(COMPOSE["services"]["worker"]["build"]["args"]) == arguments


def test_the_example_of_secrets_holds_none_and_the_real_one_is_ignored() -> None:
    secrets = re.findall(r"^#?\w*PASSWORD=(.*)$", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)

    assert secrets and set(secrets) == {""}
    assert ".env" in (REPOSITORY / ".gitignore").read_text().split()


def test_every_program_and_flag_that_a_container_runs_exists() -> None:
    helps: dict[tuple[str, ...], str] = {}
    for place, words in commands():
        program = BIN / words[0]
        assert program.exists(), f"{place}: no program '{words[0]}'"
        if words[0] == "python":
            compile(words[2], place, "exec")
            continue
        verbs = tuple(word for word in words if not word.startswith("-"))[: 3 if words[0] == "prefect" else 2]
        if verbs not in helps:
            environment = os.environ | {"COLUMNS": "300", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
            helps[verbs] = subprocess.run(
                [str(BIN / verbs[0]), *[verb for verb in verbs[1:] if verb != "--all"], "--help"],
                capture_output=True, text=True, env=environment,
            ).stdout  # fmt: skip
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        unknown = sorted(flag for flag in flags if flag not in helps[verbs])
        assert not unknown, f"{place}: {' '.join(verbs)} has no {', '.join(unknown)}"


def test_every_setting_of_prefect_that_is_named_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.settings import Settings

    monkeypatch.setenv(
        "PREFECT_SERVER_UI_STATIC_DIRECTORY", "/elsewhere"
    )  # unset settings without a default are no names
    known = set(Settings().to_environment_variables(exclude_unset=False)) | {"PREFECT_API_URL"}
    texts = [COMPOSE_TEXT, DOCKERFILE, (REPOSITORY / "pipelines" / "__init__.py").read_text()]
    legacy = {
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"
    }  # known under this name too: see the test of the flow without a server

    assert set(re.findall(r"\bPREFECT_[A-Z_]+\b", "\n".join(texts))) - known - legacy == set()


def test_the_databases_that_the_servers_use_are_made() -> None:
    made = set(re.findall(r"CREATE DATABASE (\w+);", COMPOSE["configs"]["databases"]["content"]))

    assert set(re.findall(r"@postgres:5432/(\w+)", COMPOSE_TEXT)) == made


def test_the_telemetry_of_every_container_is_off() -> None:
    from isthmus.core.process.environment import QUIET

    settings = " ".join(i.text for i in instructions(DOCKERFILE) if i.name == "ENV")

    assert [name for name, value in QUIET.items() if f"{name}={value}" not in settings] == []


@pytest.mark.parametrize("deployment", PREFECT["deployments"], ids=lambda d: d["name"])
def test_a_deployment_names_a_flow_its_parameters_and_a_schedule(deployment: dict[str, Any]) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    module, _, name = deployment["entrypoint"].rpartition(".")  # of a module: a project has no folder with the flows
    flow = getattr(importlib.import_module(module), name)
    scenarios = set(yaml.safe_load((REPOSITORY / "params.yaml").read_text())["scenarios"])
    given = deployment["parameters"]

    flow.validate_parameters(given)
    assert set(given.get("scenarios", [given.get("scenario")])) <= scenarios
    for schedule in deployment["schedules"]:
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])  # refuses what is no cron line
    assert deployment["concurrency_limit"]["limit"] == 1
    assert deployment["work_pool"]["name"] == "isthmus"


def test_prefect_yaml_names_the_version_that_is_locked() -> None:
    assert f"prefect=={PREFECT['prefect-version']}" in (REPOSITORY / "requirements.lock").read_text().split()


@pytest.mark.soak
def test_the_mlflow_server_of_compose_starts_and_answers_under_the_name_that_the_worker_uses(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    changes = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}", "/artifacts": str(tmp_path)}
    words = [BIN / "mlflow", *COMPOSE["services"]["mlflow"]["command"][1:]]
    command = [re.sub("|".join(map(re.escape, changes)), lambda m: changes[m.group()], str(word)) for word in words]
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def status(host: str) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/get?experiment_id=0")
        request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    try:
        wait_until(lambda: status("mlflow:5000") == 200, "the server", 120)
        assert status("somewhere.example:5000") == 403
        assert (tmp_path / "mlflow.db").exists()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def test_compose_itself_reads_the_file(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker's compose client is not installed; the rules above hold")
    shutil.copy(REPOSITORY / "compose.yaml", tmp_path)
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=abc\n")

    done = subprocess.run([docker, "compose", "config", "--quiet"], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_ci_is_a_strict_script_that_runs_the_readmes_command_with_everything_required() -> None:
    text = CI.read_text()

    assert os.access(CI, os.X_OK)
    assert subprocess.run(["bash", "-n", str(CI)]).returncode == 0
    assert "set -euo pipefail" in text
    assert "export ISTHMUS_REQUIRE=all" in text
    assert text.rstrip().splitlines()[-1] == "exec make test"
    assert re.search(r"^test:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
