"""Deployments are added to `prefect.yaml` and taken out of it, and nothing else in it changes."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from isthmus.core.errors import ConfigError
from isthmus.new_project import template
from pipelines.schedule import add, change, listed, remove
from pipelines.transfer import transfer
from tests.repo import REPOSITORY

NIGHT = "0 2 * * *"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(REPOSITORY / "prefect.yaml", tmp_path))


def test_a_deployment_is_added_behind_the_others_and_removed_without_a_trace(file: Path) -> None:
    before = file.read_text()

    assert add(file, "press", "transfer", NIGHT, "Europe/Berlin") == "transfer-press"
    added = file.read_text()
    add(file, "press", "watch", "*/5 * * * *", "UTC")

    assert added.startswith(before) and file.read_text().startswith(added)
    made = yaml.safe_load(added)["deployments"][-1]
    assert made["schedules"] == [{"cron": NIGHT, "timezone": "Europe/Berlin", "active": True}]
    assert made["entrypoint"] == "pipelines.transfer.transfer" and made["concurrency_limit"]["limit"] == 1
    transfer.validate_parameters(made["parameters"])
    assert [line.split() for line in listed(file)[-2:]] == [
        ["transfer-press", "transfer", "press", *NIGHT.split(), "Europe/Berlin"],
        ["watch-press", "watch", "press", "*/5", "*", "*", "*", "*", "UTC"],
    ]
    remove(file, "press", "transfer")
    assert [line.split()[0] for line in listed(file)] == ["nightly", "morning", "watch", "watch-press"]
    remove(file, "press", "watch")
    assert file.read_text() == before


@pytest.mark.parametrize(
    "text", [template("prefect.yaml"), "name: x\ndeployments: []  # none\nother: 1\n", "deployments:\n"]
)
def test_a_file_without_deployments_gets_its_first_and_loses_its_last(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(text)
    others = {key: value for key, value in yaml.safe_load(text).items() if key != "deployments"}

    add(file, "on", "promote", NIGHT, "UTC")

    found = yaml.safe_load(file.read_text())
    assert found["deployments"][0]["parameters"] == {"scenario": "on"}
    assert {key: value for key, value in found.items() if key != "deployments"} == others
    remove(file, "on", "promote")
    assert yaml.safe_load(file.read_text()) == others | {"deployments": []} and listed(file) == []


def test_what_stands_behind_or_between_the_deployments_stays(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    text = "deployments:\n# mine\n- name: a\n  tags: [x]  # why\n\n# next\n- name: b\n\nname: project # end\n"
    file.write_text(text)

    add(file, "press", "transfer", NIGHT, "UTC")

    assert file.read_text().startswith(
        "deployments:\n# mine\n- name: a\n  tags: [x]  # why\n\n# next\n- name: b\n\n- name: tr"
    )
    assert file.read_text().endswith("\nname: project # end\n")
    remove(file, "press", "transfer")
    assert file.read_text() == text


def test_a_mistake_changes_nothing_and_is_named(file: Path, tmp_path: Path) -> None:
    add(file, "press", "transfer", NIGHT, "UTC")
    before = file.read_text()

    with pytest.raises(
        ConfigError, match=r"--cron 'at two': is not understood. Allowed: minute, hour, day of the month"
    ):
        add(file, "press", "watch", "at two", "UTC")
    with pytest.raises(
        ConfigError, match=r"--timezone 'Berlin': is not understood. Allowed: a name such as Europe/Berlin"
    ):
        add(file, "press", "watch", NIGHT, "Berlin")
    with pytest.raises(
        ConfigError, match=r"a deployment 'transfer-press' already \(0 2 \* \* \* UTC\). Edit it there, or"
    ):
        add(file, "press", "transfer", NIGHT, "UTC")
    with pytest.raises(
        ConfigError, match=r"has no deployment 'watch-press'. There are: nightly, morning, watch, transfer-"
    ):
        remove(file, "press", "watch")
    with pytest.raises(ConfigError, match=r"prefect.yaml: no such file. 'isthmus init' writes it"):
        listed(tmp_path / "elsewhere" / "prefect.yaml")
    assert file.read_text() == before
    file.write_text("deployments: {a: 1}\n")
    with pytest.raises(ConfigError, match=r"deployments must be a list of mappings \(got dict\)"):
        listed(file)
    file.write_text("deployments: [{name: a}]\n")
    with pytest.raises(
        ConfigError, match=r"deployments cannot be changed in a file laid out like this. Edit it by hand"
    ):
        add(file, "press", "watch", NIGHT, "UTC")
    assert file.read_text() == "deployments: [{name: a}]\n"


def test_the_command_wants_a_scenario_that_is_there_a_time_and_a_known_flow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("scenarios: {press: {}}\n")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "prefect.yaml").write_text("deployments: []\n")
    for scenario, cron, flow, told in (
        ("pres", NIGHT, "transfer", "no scenario 'pres'. Did you mean 'press'?"),
        ("press", None, "transfer", "when? 'isthmus schedule press --cron"),
        (None, NIGHT, "transfer", "which scenario? 'isthmus schedule NAME --cron"),
        ("press", NIGHT, "wach", "--flow 'wach': no such flow. Did you mean 'watch'? Allowed: tra"),
    ):
        with pytest.raises(ConfigError, match=re.escape(told)):
            change(scenario, cron, flow, "UTC", gone=False)

    (line,) = change(None, None, "transfer", "UTC", gone=False)
    assert "nothing is scheduled" in line
    assert change("press", NIGHT, "transfer", "UTC", gone=False) == [
        "prefect.yaml: added transfer-press. To a server: prefect --no-prompt deploy --name transfer-press"
    ]
    (line,) = change("press", None, "transfer", "UTC", gone=True)
    assert "removed transfer-press. On a server: prefect deployment delete transfer/" in line
