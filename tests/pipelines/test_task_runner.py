import sys

import pytest
from prefect.task_runners import ThreadPoolTaskRunner

from isthmus.core.errors import ConfigError
from pipelines.task_runner import task_runner


def test_threads_wait_for_stages_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_TASK_RUNNER", raising=False)
    assert isinstance(task_runner(2), ThreadPoolTaskRunner)

    monkeypatch.setenv("ISTHMUS_TASK_RUNNER", "celery")
    with pytest.raises(ConfigError, match="no such task runner .got 'celery'.. Allowed: threads, dask, ray"):
        task_runner(2)


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_a_task_runner_that_is_not_installed_is_reported(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ISTHMUS_TASK_RUNNER", name)
    monkeypatch.setitem(sys.modules, f"prefect_{name}.task_runners", None)

    with pytest.raises(ConfigError, match=rf"ISTHMUS_TASK_RUNNER: {name} needs 'prefect_{name}.*: .*\[{name}\]"):
        task_runner(2)
