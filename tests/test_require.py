import pytest

from tests.require import require


def test_what_is_there_is_not_skipped():
    require("a thing", True)


def test_what_is_absent_skips_with_a_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ISTHMUS_REQUIRE", raising=False)

    with pytest.raises(pytest.skip.Exception, match="a thing is not installed"):
        require("a thing", False)


def test_what_is_absent_fails_where_all_must_be_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ISTHMUS_REQUIRE", "all")

    with pytest.raises(pytest.fail.Exception, match="a thing is not installed, and ISTHMUS_REQUIRE=all: install it"):
        require("a thing", False)
