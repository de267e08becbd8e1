"""At least forty kills: nothing lives on, nothing hangs, and the next run ends as if nobody had disturbed it."""

from pathlib import Path

import pytest

from tests.soak.kills import each_process_each_signal, random_kills, table

pytestmark = [pytest.mark.soak, pytest.mark.slow, pytest.mark.timeout(7200)]


def test_after_each_signal_to_each_process_nothing_is_left_and_the_next_run_is_right(tmp_path: Path) -> None:
    kills = list(each_process_each_signal(tmp_path))
    print(table(kills))

    assert len(kills) == 24
    assert [kill for kill in kills if not kill.good] == []


def test_the_real_line_killed_at_random_ends_in_the_same_bytes(tmp_path: Path) -> None:
    kills = list(random_kills(tmp_path, count=20, seed=0))
    print(table(kills))

    assert len(kills) == 20
    assert [kill for kill in kills if not kill.good] == []
