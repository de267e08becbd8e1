import pytest

from isthmus.core.progress import Pace, track


def test_a_log_gets_a_last_line_with_count_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "ingest", 3)) == [0, 1, 2]

    assert "ingest: 3/3 images" in capsys.readouterr().err


def test_it_is_time_again_only_after_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("isthmus.core.progress.time.monotonic", lambda: now[0])
    pace = Pace(10)
    said = []
    for now[0] in (9.0, 10.0, 11.0, 19.0, 20.0):
        said.append(pace.due())

    assert said == [False, True, False, False, True]
