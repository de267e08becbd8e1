"""Schedules of flows: the deployments of `prefect.yaml`. Lines are added and taken out; all others stay as they are."""

import re
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML

from isthmus.core.errors import ConfigError
from isthmus.core.files import write_text
from isthmus.core.names import read_params
from isthmus.core.params.params_copy import NAME
from isthmus.core.params.yaml_file import read_yaml
from isthmus.core.plugins import did_you_mean
from isthmus.data.scenario_names import scenario_names

FILE = Path("prefect.yaml")
# flow -> what it does, and the parameter that takes the scenario
FLOWS = {
    "transfer": (
        "Runs the pipeline of {name} on what is in data/raw now, and publishes what has changed.",
        '["{name}"]',
    ),
    "promote": ("Asks the gate about the published candidate of {name}, and promotes it if it says yes.", '"{name}"'),
    "watch": ("Tests whether what was served of {name} still looks like what the champion was adapted to.", '"{name}"'),
}
_BLOCK = """\
- name: {flow}-{name}
  description: {what}
  entrypoint: pipelines.{flow}.{flow}
  parameters: {{{key}: {value}}}
  schedules:
    - {{cron: "{cron}", timezone: "{timezone}", active: true}}
  concurrency_limit: {{limit: 1, collision_strategy: ENQUEUE}}
  work_pool: {{name: isthmus}}
"""


def listed(file: Path) -> list[str]:
    """Returns one line a deployment: its name, flow, scenario and when it runs.

    Raises:
        ConfigError: there is no such file, or it has no list of deployments.
    """
    rows = []
    for entry in _deployments(file):
        given = entry.get("parameters") or {}
        scenarios = given.get("scenarios", given.get("scenario", ""))
        times = [_time(schedule) for schedule in entry.get("schedules") or [] if schedule.get("active", True)]
        flow = str(entry.get("entrypoint", "")).rpartition(".")[2]
        of = ", ".join(map(str, scenarios)) if isinstance(scenarios, list) else str(scenarios)
        rows.append([str(entry.get("name")), flow, of, "; ".join(times) or "not scheduled"])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def add(file: Path, name: str, flow: str, cron: str, timezone: str) -> str:
    """Adds a deployment that runs a flow of a scenario, and returns its name.

    Args:
        file: `prefect.yaml`.
        name: the scenario.
        flow: one of `FLOWS`.
        cron: minute, hour, day of the month, month, day of the week.
        timezone: such as `Europe/Berlin`.

    Raises:
        ConfigError: cron or timezone is wrong, or there is a deployment of this name.
    """
    _check_time(cron, timezone)
    before, deployment = _deployments(file), f"{flow}-{name}"
    for entry in before:
        if entry.get("name") == deployment:
            times = "; ".join(map(_time, entry.get("schedules") or [])) or "not scheduled"
            raise ConfigError(
                f"{file}: there is a deployment '{deployment}' already ({times}). Edit it there, or remove it first:"
                f" 'isthmus schedule {name} --flow {flow} --remove'"
            )
    what, value = FLOWS[flow]
    block = _BLOCK.format(
        name=name, flow=flow, what=what.format(name=name), key="scenarios" if flow == "transfer" else "scenario",
        value=value.format(name=name), cron=cron, timezone=timezone,
    )  # fmt: skip
    text = file.read_text(encoding="utf-8")
    if before:
        items = YAML().load(text)["deployments"]
        lines, indent = text.splitlines(keepends=True), " " * (items.lc.col)
        end = _end(lines, items, len(before) - 1)
        lines[end - 1] = lines[end - 1].rstrip("\n") + "\n"
        lines.insert(end, "\n" + "".join(f"{indent}{line}" for line in block.splitlines(keepends=True)))
        text = "".join(lines)
    else:
        shown = "".join(f"  {line}" for line in block.splitlines(keepends=True))
        text = re.sub(
            r"(?m)^deployments:[ \t]*(\[\]|null|~)?[ \t]*(#.*)?$", lambda m: f"deployments:\n{shown.rstrip()}", text
        )
    _write(file, text, [*before, *yaml.safe_load(block)])
    return deployment


def remove(file: Path, name: str, flow: str) -> str:
    """Takes out the deployment that `add` wrote, and returns its name.

    Raises:
        ConfigError: there is none.
    """
    before, deployment = _deployments(file), f"{flow}-{name}"
    names = [str(entry.get("name")) for entry in before]
    if deployment not in names:
        raise ConfigError(f"{file}: has no deployment '{deployment}'. There are: {', '.join(names) or 'none'}")
    place, text = names.index(deployment), file.read_text(encoding="utf-8")
    lines, items = text.splitlines(keepends=True), YAML().load(text)["deployments"]
    first = items.lc.item(place)[0]
    if len(before) == 1:
        head = next(n for n, line in enumerate(lines) if line.startswith("deployments:"))
        lines[head] = "deployments: []\n"
    end = _end(lines, items, place)
    while place and not lines[first - 1].strip():
        first -= 1
    del lines[first:end]
    _write(file, "".join(lines), before[:place] + before[place + 1 :])
    return deployment


def _end(lines: list[str], items: Any, place: int) -> int:
    """Returns the line after the last one of an item of a list; empty lines and comments behind it are not its own."""
    first = items.lc.item(place)[0]
    indent = items.lc.col
    end = first + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
        end += 1
    while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return end


def _write(file: Path, text: str, deployments: list[Any]) -> None:
    expected = read_yaml(file) | {"deployments": deployments}
    try:
        right = yaml.safe_load(text) == expected
    except yaml.YAMLError:
        right = False
    if not right:
        raise ConfigError(f"{file}: deployments cannot be changed in a file laid out like this. Edit it by hand")
    write_text(file, text)


def _deployments(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise ConfigError(f"{file}: no such file. 'isthmus init' writes it; run it in the project's root")
    found = read_yaml(file).get("deployments", [])
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ConfigError(f"{file}: deployments must be a list of mappings (got {type(found).__name__})")
    return found


def _time(schedule: dict[str, Any]) -> str:
    return (
        f"{schedule.get('cron') or schedule.get('rrule') or schedule.get('interval')} {schedule.get('timezone', 'UTC')}"
    )


def _check_time(cron: str, timezone: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule  # two seconds

    for option, given, wanted, values in (
        ("--cron", cron, "minute, hour, day of the month, month, day of the week, such as '0 2 * * *'", {"cron": cron}),
        ("--timezone", timezone, "a name such as Europe/Berlin or UTC", {"cron": "0 2 * * *", "timezone": timezone}),
    ):
        try:
            CronSchedule(**values)
        except ValueError:
            raise ConfigError(f"{option} '{given}': is not understood. Allowed: {wanted}") from None


def change(scenario: str | None, cron: str | None, flow: str, timezone: str, gone: bool) -> list[str]:
    """Lists, adds or removes deployments of the current project; returns what was done.

    Args:
        scenario: its name; None: list what is scheduled.
        cron: when it runs.
        flow: a name of `FLOWS`.
        timezone: of `cron`.
        gone: remove the deployment.

    Raises:
        ConfigError: the flow, the scenario or the time is not known, or the file cannot be changed.
    """
    if flow not in FLOWS:
        near = did_you_mean(flow, list(FLOWS))
        raise ConfigError(f"--flow '{flow}': no such flow.{near} Allowed: {', '.join(FLOWS)}")
    if scenario is None:
        if cron or gone:
            raise ConfigError("which scenario? 'isthmus schedule NAME --cron ...', 'isthmus schedule NAME --remove'")
        return listed(FILE) or [
            f"{FILE}: nothing is scheduled. 'isthmus schedule NAME --cron \"0 2 * * *\"' adds a run"
        ]
    if gone:
        name = remove(FILE, scenario, flow)
        return [f"{FILE}: removed {name}. On a server: prefect deployment delete {flow}/{name}"]
    if not cron:
        raise ConfigError(f"when? 'isthmus schedule {scenario} --cron \"0 2 * * *\"' runs it each night at two")
    scenario_names(read_params(Path(NAME)), [scenario], Path(NAME))
    made = add(FILE, scenario, flow, cron, timezone)
    return [f"{FILE}: added {made}. To a server: prefect --no-prompt deploy --name {made}"]
