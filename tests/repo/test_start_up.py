"""What starts often starts without torch, which takes over a second."""

import subprocess
import sys

import pytest

WITHOUT_TORCH = ("ingest", "labels", "prepare", "select", "explain", "robustness", "report", "code")


@pytest.mark.slow
def test_stages_that_compute_nothing_and_the_flow_start_without_torch() -> None:
    names = [*(f"isthmus.stages.{stage}" for stage in WITHOUT_TORCH), "isthmus.cli", "pipelines.transfer"]
    script = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
