"""What a terminal shows of a flow: a line a stage, or warnings alone. Prefect's own log of the run keeps everything."""

import logging
from pathlib import Path

from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler


def show_briefly(quiet: bool = False) -> None:
    """Leaves to the terminal what the flow itself logs, and warnings of everything that is no flow.

    Args:
        quiet: of the flow warnings alone too.
    """
    setup_logging()  # what Prefect sets up later is added to this
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(_is_warning if quiet else _is_brief)
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))


def _is_brief(record: logging.LogRecord) -> bool:
    if record.name.startswith(("prefect.flow_runs", "prefect.task_runs")):
        return record.name == "prefect.flow_runs" and Path(record.pathname).parent == Path(__file__).parent
    return _is_warning(record)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
