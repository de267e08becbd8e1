"""Prefect flows over DVC's graph: when and where it runs, retries and sight. No arithmetic, no order of stages."""

import os
import tempfile
from pathlib import Path

from isthmus.core import plugins
from isthmus.core.process.environment import settle_environment
from isthmus.core.project import MARKS

plugins.use(Path(plugins.OWN))  # of the project that a worker of Prefect has gone to
settle_environment()  # here because Prefect reads its settings while it is imported
if "PREFECT_API_URL" not in os.environ and all(Path(name).exists() for name in MARKS):
    # no server given: one that lives as long as the flow, with its record of runs inside the project
    os.environ.setdefault("PREFECT_HOME", str(Path(".isthmus/prefect").absolute()))
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
    # its first start on a busy machine takes longer than Prefect's own 20 s
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    # it does not come back: Prefect's own five tries for each of its messages took minutes
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "1")
    # errors in it return to the flow, which reports them in one message
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir(parents=True, exist_ok=True)  # Prefect itself makes one level only
    with tempfile.TemporaryFile(dir=home) as probe:  # a folder that cannot be written is told before Prefect meets it
        probe.write(b"x")
