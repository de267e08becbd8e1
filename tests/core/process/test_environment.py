import os
from pathlib import Path

import pytest

from isthmus.core.process import environment
from isthmus.core.process.environment import QUIET, settle_environment


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*QUIET, "NO_PROXY", "no_proxy", "LOGNAME", "USER", "HOME"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # put back afterwards, whatever the test does
        monkeypatch.delenv(name)


def test_telemetry_is_off_and_a_users_own_value_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "a user's own value")

    settle_environment()

    assert os.environ["DO_NOT_TRACK"] == os.environ["DVC_NO_ANALYTICS"] == "1"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "a user's own value"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "127.0.0.1,localhost,::1"),
        ("intranet, localhost", "intranet,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_loopback_servers_are_never_asked_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    if given:
        monkeypatch.setenv("no_proxy", given)
        monkeypatch.setenv("NO_PROXY", given)

    settle_environment()

    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == expected


def test_a_user_id_without_a_name_gets_one_and_a_named_user_keeps_his(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_environment()
    assert "LOGNAME" not in os.environ

    monkeypatch.setattr(environment, "_has_name", lambda: False)
    settle_environment()

    assert os.environ["LOGNAME"] == os.environ["USER"] == f"uid-{os.getuid()}"


def test_a_home_that_is_missing_or_cannot_be_used_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nonexistent")

    settle_environment()

    assert os.environ["HOME"] == str(tmp_path / ".isthmus" / "home")
    assert Path(os.environ["HOME"]).is_dir()
    monkeypatch.setenv("HOME", str(tmp_path))
    settle_environment()
    assert os.environ["HOME"] == str(tmp_path)
