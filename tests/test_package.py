import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_without_spinning_unless_the_user_says_otherwise(given: str | None, seen: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    read = "import isthmus, os, sys; assert 'torch' not in sys.modules; print(os.environ['OMP_WAIT_POLICY'])"

    done = subprocess.run([sys.executable, "-c", read], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == seen
