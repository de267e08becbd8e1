import pytest

from isthmus.core.progress import track


def test_a_log_gets_a_last_line_with_count_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "ingest", 3)) == [0, 1, 2]

    assert "ingest: 3/3 images" in capsys.readouterr().err
