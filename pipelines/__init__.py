"""Prefect flows over DVC's graph: when and where it runs, retries and sight. No arithmetic, no order of stages."""

import os
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# Set here because Prefect reads its settings while it is imported. A user's own values win.
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)
if "PREFECT_API_URL" not in os.environ and Path("dvc.yaml").exists():
    # no server given: one that lives as long as the flow, with its record of runs inside the project
    os.environ.setdefault("PREFECT_HOME", str(Path(".isthmus/prefect").absolute()))
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect itself makes one level only
    os.environ.setdefault("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "true")
    # its first start on a busy machine takes longer than Prefect's own 20 s
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
