"""What a terminal shows of a flow: a line a stage, or warnings alone. Prefect's own log of the run keeps everything."""

import logging
from pathlib import Path

from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler

from isthmus.core.progress import Pace

_SECONDS_BETWEEN_LINES = 20.0  # of what the stages themselves print
_HERE = Path(__file__).parent


def show_briefly(quiet: bool = False) -> None:
    """Leaves to the terminal what the flow itself logs, and warnings of everything that is no flow.

    Of what stages print a line now and then is shown, so that a long one is not silent.

    Args:
        quiet: of the flow warnings alone too.
    """
    setup_logging()  # what Prefect sets up later is added to this
    for handler in logging.getLogger().handlers:
        if isinstance(handler, PrefectConsoleHandler):
            handler.addFilter(_is_warning if quiet else Brief(_SECONDS_BETWEEN_LINES))
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))


class Brief(logging.Filter):
    """Lets through the flow's own lines, warnings of what is no flow, and one of the stages' lines in a while.

    Args:
        seconds: between two lines of stages [s].
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._pace = Pace(seconds)

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the terminal shows a record."""
        ours = Path(record.pathname).parent == _HERE
        if record.name == "prefect.task_runs":
            return ours and self._pace.due()
        return ours if record.name == "prefect.flow_runs" else _is_warning(record)


def _is_warning(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING
