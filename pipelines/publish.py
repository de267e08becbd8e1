"""Publishes one finished scenario in a process of its own: two models with different code cannot share one.

The last three lines that it prints say where the report, the model and MLflow's page are.
"""

import argparse
import sys
from pathlib import Path

from isthmus.core.files import write_text
from isthmus.core.process.failures import one_message
from isthmus.core.project import work_in
from isthmus.registry.publish.publish import publish


def main(arguments: list[str] | None = None) -> int:
    """Publishes the scenario of the current project; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.publish", description=__doc__)
    parser.add_argument("scenario")
    parser.add_argument("--note", type=Path, help="a file for the verdict and links, as Markdown")
    parser.add_argument("--flow-run-id", help="the Prefect run that made the results, for the lineage")
    given = parser.parse_args(arguments)
    work_in(Path.cwd())
    with one_message(f"publish {given.scenario}"):
        done = publish(Path.cwd(), given.scenario, given.flow_run_id)
        if given.note:
            write_text(given.note, done.note())
        print("\n".join(done.places()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
