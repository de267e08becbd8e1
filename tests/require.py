"""What a test needs from the machine: absent, it skips with a clear line; with ISTHMUS_REQUIRE=all it fails."""

import os

import pytest


def require(what: str, present: bool) -> None:
    """Skips the test if something is absent, or fails it where all must be there."""
    if present:
        return
    if os.environ.get("ISTHMUS_REQUIRE") == "all":
        pytest.fail(f"{what} is not installed, and ISTHMUS_REQUIRE=all: install it (see .ci/run)", pytrace=False)
    pytest.skip(f"{what} is not installed")
