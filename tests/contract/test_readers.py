from pathlib import Path

import pytest

from isthmus.core import plugins
from isthmus.core.errors import ConfigError, DataError
from isthmus.data.readers import Reader, reader_for

NAMES = plugins.names("data.readers")


def load(name: str) -> type[Reader]:
    try:
        reader: type[Reader] = plugins.load("data.readers", name).FileReader
    except ConfigError as error:
        pytest.skip(str(error))
    return reader


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_says_which_suffixes_it_reads(name: str) -> None:
    suffixes = load(name).suffixes

    assert suffixes
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)


@pytest.mark.parametrize("name", NAMES)
def test_no_two_readers_claim_one_suffix(name: str) -> None:
    others = [load(other).suffixes for other in NAMES if other != name]

    assert not any(load(name).suffixes & other for other in others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"just some words\n", b"\0" * 300, bytes(range(256))])
def test_a_reader_refuses_what_is_no_image_with_a_reason_and_without_the_path(
    name: str, content: bytes, tmp_path: Path
) -> None:
    reader = load(name)()
    path = tmp_path / f"secret{sorted(reader.suffixes)[0]}"
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        for part in reader.parts(path):
            reader.read(path, part)

    assert str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unknown_suffix_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no reader for '\.xyz'. Known: .*\.png"):
        reader_for(Path("a.xyz"))
