"""The blocks of docs/how-to/s3.md on real servers: S3, Postgres, MLflow behind a token, Prefect with a worker.

Two folders of images become a champion, and a second clone that has only git and the remotes makes it again.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import yaml

from tests.e2e.test_installed import write_photos
from tests.repo import REPOSITORY
from tests.servers import PASSWORD, behind_token, free_port, psql, running_block, running_postgres, running_s3

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.timeout(2400)]
PAGE = (REPOSITORY / "docs" / "how-to" / "s3.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TOKEN, SECRET = "a-token-that-nobody-may-read", "a-key-that-nobody-may-read"
DATABASES = "".join(f"CREATE DATABASE {name};" for name in ("mlflow", "direct", "prefect", "promotions"))


def block(word: str) -> str:
    """Returns the page's block of commands in which a word stands."""
    (found,) = [text for text in BLOCKS if word in text]
    return found


class Team:
    """What the servers' users have: addresses, keys and a shell; all that was printed is kept."""

    def __init__(self, folder: Path, names: dict[str, str]) -> None:
        self.folder, self.printed = folder, ""
        left_out = ("PREFECT_", "MLFLOW_", "AWS_", "ISTHMUS_", "PYTHONPATH")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        who = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        quiet = {"DVC_NO_ANALYTICS": "1", "DO_NOT_TRACK": "1", "PREFECT_HOME": str(folder / "prefect")}
        self.environment |= who | quiet | names | {"PATH": path}

    def run(self, script: str, folder: str = "work", status: int = 0, **names: str) -> str:
        """Runs a script in a folder and returns what it printed."""
        done = subprocess.run(
            ["bash", "-ec", script], cwd=self.folder / folder, env=self.environment | names, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900,
        )  # fmt: skip
        assert done.returncode == status, f"{script}\n{done.stdout}"
        self.printed += done.stdout
        return done.stdout

    def export(self, script: str) -> None:
        """Keeps the variables that a block sets, for all that follows."""
        names = re.findall(r"(\w+)=", script)
        told = self.run(f"{script}\n" + "\n".join(f'printf "%s\\n" "${name}"' for name in names), ".")
        self.environment |= dict(zip(names, told.splitlines(), strict=True))
        self.printed = ""


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    """All servers up, and nothing on them."""
    for name in ("s3", "mlflow", "direct", "server"):
        (tmp_path / name).mkdir()
    with ExitStack() as stack:
        postgres = stack.enter_context(running_postgres(DATABASES))
        endpoint = stack.enter_context(running_s3(tmp_path / "s3"))
        login = f"isthmus:{PASSWORD}@127.0.0.1:{postgres}"
        names = {
            "BUCKET": "team", "ENDPOINT": endpoint, "KEY": "ann", "SECRET": SECRET, "TOKEN": TOKEN,
            "DATABASES": f"postgresql://{login}", "PREFECT_DATABASE": f"postgresql+asyncpg://{login}/prefect",
            "POSTGRES_PORT": str(postgres), "REPOSITORY": str(tmp_path / "origin.git"),
        }  # fmt: skip
        team = Team(tmp_path, names)
        _bucket(team).create()
        for word, health in (("mlflow server", "health"), ("prefect server", "api/health")):
            port = str(free_port())
            where, address = tmp_path / word.partition(" ")[0].replace("prefect", "server"), f"http://127.0.0.1:{port}"
            stack.enter_context(
                running_block(block(word), where, team.environment | {"PORT": port}, f"{address}/{health}")
            )
            team.environment[word.partition(" ")[0].upper()] = address
        team.environment["PREFECT_API_URL"] = f"{team.environment['PREFECT']}/api"
        team.environment["MLFLOW"] = stack.enter_context(behind_token(team.environment["MLFLOW"], TOKEN))
        yield team


def test_a_pair_becomes_a_champion_on_remote_servers_and_a_second_clone_makes_it_again(team: Team) -> None:
    write_photos(team.folder / "photos")
    team.run("git init -q --bare -b main origin.git && isthmus init work", ".")
    team.run("git remote add origin ../origin.git")
    _make_small(team.folder / "work" / "params.yaml")
    team.run("isthmus add press --source ../photos/old_camera --target ../photos/new_camera --kind industrial")
    _make_small(team.folder / "work" / "params.yaml")
    team.run("isthmus schedule press --cron '0 2 * * *'")
    team.run(block("endpointurl"))
    assert any(key.startswith("dvc/files/md5/") for key in _keys(team))  # the images; nothing has run yet

    # the address alone: the door stays shut, and the message has no traceback
    shut = team.run(
        "isthmus publish press || isthmus trace isthmus-press@champion", status=2,
        MLFLOW_TRACKING_URI=team.environment["MLFLOW"],
    )  # fmt: skip
    assert "refused or did not answer" in shut and "401" in shut and "Traceback" not in shut
    team.export(block("MLFLOW_TRACKING_TOKEN"))
    _run_through_worker(team)
    team.run("git add -A && git commit -q -m results && git push -q origin HEAD && dvc push -q")
    team.run("isthmus score press")
    verdict = team.run("isthmus gate press", status=4)
    assert "data: all of it is in the remote 'store'" in verdict and "all of it is in the remote 'origin'" in verdict
    team.run("isthmus promote press --approve Ann")

    assert not list((team.folder / "work").glob("ml*"))  # no store, no artifacts on this machine
    intents = (
        "SELECT model, new_champion, approved_by, outcome FROM isthmus.intents JOIN isthmus.outcomes ON id = intent"
    )
    assert psql(int(team.environment["POSTGRES_PORT"]), "promotions", intents) == "isthmus-press|1|Ann|done"
    assert any(key.startswith("mlflow/") and "/models/m-" in key for key in _keys(team)), _keys(team)[-9:]

    told = team.run(block("git clone"), ".")
    assert "reproduced; the same raw data" in told
    ((same, of),) = re.findall(r"(\d+) of (\d+) outputs are the same bytes", told)
    assert same == of
    assert "champion" in team.run("isthmus status", "clone")
    team.run("isthmus predict isthmus-press@champion ../photos/new_camera --out answers.csv", "clone")

    _without_a_hand_on(team)
    for secret in (PASSWORD, TOKEN, SECRET):
        assert secret not in team.printed
        kept = team.run(f"grep -rlF {secret} work clone origin.git || true", ".").split()
        assert {Path(path).name for path in kept} <= {"config.local"}


def _without_a_hand_on(team: Team) -> None:
    """A server that hands no files on: those who publish write to the bucket themselves."""
    port, where = str(free_port()), team.folder / "direct"
    script = block("mlflow server").replace("--artifacts-destination", "--no-serve-artifacts --default-artifact-root")
    script = script.replace("DATABASES/mlflow", "DATABASES/direct").replace("BUCKET/mlflow", "BUCKET/direct")
    address = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "ann", "AWS_SECRET_ACCESS_KEY": SECRET}
    with running_block(script, where, team.environment | {"PORT": port}, f"{address}/health"):
        store = {"MLFLOW_TRACKING_URI": address, "ISTHMUS_PROMOTION_DB": ""}
        refused = team.run("isthmus publish press", status=2, **store, MLFLOW_S3_ENDPOINT_URL="http://127.0.0.1:9")
        assert "Traceback" not in refused and "keys" in refused
        here = store | keys | {"MLFLOW_S3_ENDPOINT_URL": team.environment["ENDPOINT"]}
        team.run("isthmus publish press && isthmus trace isthmus-press@candidate", **here)
    assert any(key.startswith("direct/") and "/models/m-" in key for key in _keys(team)), _keys(team)[-9:]


def _run_through_worker(team: Team) -> None:
    team.run("prefect work-pool create isthmus --type process && prefect --no-prompt deploy --all")
    told = team.run("prefect deployment run transfer/transfer-press")
    run_id = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", told)[0]
    printed = team.run("prefect worker start --pool isthmus --run-once")
    with httpx.Client(trust_env=False) as client:
        state = client.get(f"{team.environment['PREFECT_API_URL']}/flow_runs/{run_id}").json()["state"]
    assert state["type"] == "COMPLETED", printed


def _bucket(team: Team) -> Any:
    names = team.environment
    login = {"aws_access_key_id": names["KEY"], "aws_secret_access_key": names["SECRET"], "region_name": "us-east-1"}
    return boto3.resource("s3", endpoint_url=names["ENDPOINT"], **login).Bucket(names["BUCKET"])


def _keys(team: Team) -> list[str]:
    return [found.key for found in _bucket(team).objects.all()]


def _make_small(params: Path) -> None:
    document = yaml.safe_load(params.read_text())
    document["models"]["vit"] = {"mode": "frozen", "backbone": {"name": "small_cnn"}, "epochs": 3, "bottleneck": 16}
    document["methods"] = {"source_only": {}, "zscore": {}}
    document["train"] |= {"seeds": [0], "batch_size": 8}
    document["lineage"] = {"git_remote": "origin"}
    document["pairs"] = {"digits": {}}
    for scenario in (document.get("scenarios") or {}).values():
        scenario["preprocess"] = {"image_size": 28}
    params.write_text(yaml.safe_dump(document, sort_keys=False))
