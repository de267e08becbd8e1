"""At least forty kills: nothing lives on, nothing hangs, and the next run ends as if nobody had disturbed it.

The table is written to docs/reliability.md.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak.kills import CHOSEN, Kill, each_process_each_signal, random_kills, rows
from tests.soak.reliability import rows_of, write_section

TITLE = "Kills of run and repro"
HOW = """`isthmus run` on a project of two short stages: each of its processes gets each signal in the middle of a
stage. Then the real line, run in turns by `isthmus run` and by a plain `dvc repro`: a random process gets a random
signal after 1 to 40 s (seed 0), and each line that comes to its end is followed by a fresh one. A kill is right
afterwards when the program ended in time (30 s; 300 s on the real line, where other stages finish first), no process
lived on, and the next run made the bytes of a run that nobody disturbed."""
HEAD = """| running: killed | kills | SIGKILL, SIGTERM, SIGINT | longest until ended [s] | left | right afterwards |
| --- | ---: | ---: | ---: | ---: | ---: |"""

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.fixture
def kills() -> Iterator[list[Kill]]:
    """The kills of one campaign, written to the page whatever became of them."""
    made: list[Kill] = []
    yield made
    table = "\n".join([HEAD, *(rows_of(TITLE) | rows(made)).values()])
    print(f"\n{table}")
    write_section(TITLE, f"{HOW}\n\n{table}")


def test_after_each_signal_to_each_process_nothing_is_left_and_the_next_run_is_right(
    kills: list[Kill], tmp_path: Path
) -> None:
    kills += each_process_each_signal(tmp_path)

    assert len(kills) == 3 * len(CHOSEN)  # 24, but where ISTHMUS_KILLS_OF names some of the processes
    assert [kill for kill in kills if not kill.good] == []


def test_the_real_line_killed_at_random_ends_in_the_same_bytes(kills: list[Kill], tmp_path: Path) -> None:
    kills += random_kills(tmp_path, count=20, seed=0)

    assert len(kills) == 20
    assert [kill for kill in kills if not kill.good] == []
