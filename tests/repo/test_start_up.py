"""What starts often starts without the packages that take a second or two to import."""

import subprocess
import sys

import pytest

NAMES = ("ingest", "labels", "prepare", "select", "explain", "robustness", "report", "code")
STAGES = [f"isthmus.stages.{name}" for name in NAMES]
REGISTRY = [f"isthmus.registry.{name}" for name in ("gate.score", "gate.decision", "promotion.promotion")]
COMMANDS = ["isthmus.cli", "pipelines.transfer"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "modules"),
    [("torch", [*STAGES, *REGISTRY, *COMMANDS]), ("mlflow", COMMANDS), ("sklearn", ["isthmus.checks"])],
)
def test_what_starts_often_starts_without_a_package_that_it_does_not_need(package: str, modules: list[str]) -> None:
    script = f"import sys, {', '.join(modules)}; print({package!r} in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
