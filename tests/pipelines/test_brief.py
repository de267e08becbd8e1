import logging

from pipelines import brief, runner
from pipelines.brief import Brief


def record(logger: str, file: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord(logger, level, file, 1, "embed domain0-all: 2/15 batches", None, None)


def test_of_the_lines_of_stages_one_is_shown_in_a_while_and_prefects_own_never() -> None:
    often, seldom = Brief(0.0), Brief(3600.0)
    stage = record("prefect.task_runs", runner.__file__)

    assert [often.filter(stage) for _ in range(3)] == [True] * 3
    assert [seldom.filter(stage) for _ in range(3)] == [False] * 3
    assert not often.filter(record("prefect.task_runs", "prefect/task_engine.py", logging.ERROR))


def test_lines_of_the_flow_and_warnings_of_what_is_no_flow_are_shown() -> None:
    kept = Brief(3600.0)

    assert kept.filter(record("prefect.flow_runs", brief.__file__))
    assert kept.filter(record("httpx", "httpx/_client.py", logging.WARNING))
    assert not kept.filter(record("httpx", "httpx/_client.py"))
    assert not kept.filter(record("prefect.flow_runs", "prefect/flow_engine.py", logging.ERROR))
