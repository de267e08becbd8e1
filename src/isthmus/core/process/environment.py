"""The environment of a command of ours and of all that it starts; a user's own values win."""

import os
import pwd
from contextlib import suppress

from isthmus.core.errors import ConfigError
from isthmus.core.project import find_project

QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def settle_environment() -> None:
    """Switches telemetry off, keeps loopback servers from being asked through a proxy, and names user and home.

    A user id without a name, as containers give one, and a home that is missing or cannot be written make DVC, Prefect,
    MLflow and torch fail, each in its own words.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("NO_PROXY", "no_proxy"):
        given = [entry.strip() for entry in os.environ.get(name, "").split(",") if entry.strip()]
        if "*" not in given:
            os.environ[name] = ",".join([*given, *(host for host in _LOOPBACK if host not in given)])
    if not _has_name():
        os.environ.setdefault("LOGNAME", f"uid-{os.getuid()}")
        os.environ.setdefault("USER", f"uid-{os.getuid()}")
    home = os.environ.get("HOME", "")
    if not home or not os.access(home, os.W_OK | os.X_OK):
        with suppress(ConfigError, OSError):
            place = find_project() / ".isthmus" / "home"  # not below /tmp, where another user could have made it before
            os.environ["HOME"] = str(place)  # DVC needs the name at least, even where the folder cannot be made
            place.mkdir(parents=True, exist_ok=True)


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True
