"""Thirty random moments of run, repro and worker: nothing lives on, and the next run ends in the same bytes.

The table is written to docs/reliability.md; a run of some of the moments (`-k 07`) keeps the other rows.
"""

import os
from collections.abc import Iterator

import pytest

from tests.soak.moments import DISK, Campaign, Moment, Seen, campaign, moments, row
from tests.soak.reliability import rows_of, write_section

SEED = 0
TITLE = "Thirty moments of run and repro"
HOW = f"""The real line from raw files to prepared images. `isthmus run`, a plain `dvc repro`, and a worker of Prefect
that runs the deployment are disturbed at random moments (seed {SEED}): a signal; the flow's own server killed by
SIGKILL; the project's disk of {DISK} MiB filled to its last byte; or, from the start, a low limit of open files.
A moment is right afterwards when the program ended by itself, no process that it started lived on, and the next run
left the same files as an undisturbed run (`out/`, `dvc.lock`, every other file of the project), no lock and
nothing half-written."""
HEAD = """| moment | running | what happened | when | ended after [s] | left | next run |
| ---: | --- | --- | --- | ---: | ---: | --- |"""

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.timeout(900)]
ROWS: dict[str, str] = {}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """The undisturbed line; at the end the table is written, whatever became of the moments."""
    try:
        with campaign(tmp_path_factory.mktemp("chaos")) as made:
            yield made
    finally:
        rows = rows_of(TITLE) | ROWS
        table = "\n".join([HEAD, *(rows[number] for number in sorted(rows, key=int))])
        print(f"\n{table}")
        write_section(TITLE, f"{HOW}\n\n{table}")


@pytest.mark.parametrize("moment", moments(SEED), ids=lambda moment: moment.name)
def test_the_next_run_ends_in_the_same_bytes(line: Campaign, moment: Moment) -> None:
    if "disk" in moment.what and os.getuid() != 0:
        pytest.skip("only root mounts a disk of its own")
    seen = Seen()
    try:
        seen = line.disturb(moment)
    finally:
        ROWS[str(moment.number)] = row(moment, seen)
        print(ROWS[str(moment.number)])

    assert seen.good, seen
