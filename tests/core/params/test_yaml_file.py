import threading
import time
from pathlib import Path

import pytest

from isthmus.core.config import read_yaml
from isthmus.core.errors import ConfigError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def read(tmp_path: Path, text: str | bytes) -> dict[str, object]:
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the top level must be a mapping of sections \(got nothing\)"),
        ("a: [1\nb: 2\n", "line 2, column 2: not valid YAML: did not find expected"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is already on line 1. Keep one"),
        ("a: {b: 1, c: {d: 1, d: 2}}\n", "line 1: the key 'd' is already on line 1"),
        ("a: 1\n'a': 2\n", "line 2: the key 'a' is already on line 1"),
        (BOMB, r"its aliases \('\*name'\) expand to 4\d{8} values. Write the values out"),
        ("a: &a [*a]\n", r"line 1: a value that contains itself \('\*a'\)"),
        ("[" * 100_000, "line 1: nested more than 100 deep"),
        ("- " * 100_000, "line 1: nested more than 100 deep"),
        (b"a: \xff\n", r"not UTF-8 text \(byte 3\). Save it as UTF-8"),
        (b"a: \x00\n", "not valid YAML: unacceptable character"),
        ("a: !!python/object/apply:os.system ['true']\n", "line 1, column 4: .*could not determine a construct"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_would_be_misread_is_refused_with_its_place(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"params.yaml: {message}"):
        read(tmp_path, text)


def test_all_keys_that_stand_twice_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2: the key 'a'.*\n.*line 4: the key 'b'"):
        read(tmp_path, "a: 1\na: 2\nb: 3\nb: 4\n")


def test_aliases_merges_and_keys_of_two_types_are_read(tmp_path: Path) -> None:
    text = "base: &base {x: 1, y: 2}\nmore: {<<: *base, x: 3}\nlast: *base\n1: a\n'1': b\n"

    assert read(tmp_path, text) == {
        "base": {"x": 1, "y": 2}, "more": {"x": 3, "y": 2}, "last": {"x": 1, "y": 2}, 1: "a", "1": "b",
    }  # fmt: skip


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: 1\n") == {"a": 1}


@pytest.mark.parametrize("half", ["", "a: [1,"])
def test_a_file_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path, half: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(half)

    def write() -> None:
        for end in range(3):  # other bytes each time, as a writer at work leaves
            time.sleep(0.05)
            path.write_text(half and f"a: [{end + 2},")
        path.write_text("a: 1\n")

    writer = threading.Thread(target=write)
    writer.start()

    assert read_yaml(path) == {"a": 1}
    writer.join()


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        read_yaml(tmp_path)
