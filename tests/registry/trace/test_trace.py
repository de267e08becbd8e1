import pytest

from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import sha256_bytes
from isthmus.registry.trace.trace import _sha256_of, sightings_text, trace, who_saw
from tests.registry.versions import add_version


def test_a_version_whose_run_lists_nothing_cannot_be_traced_and_is_no_sighting(empty):
    add_version(empty)

    with pytest.raises(StoreError, match=r"has no lineage.json, which a trace needs"):
        trace(empty, "demo@candidate")
    assert who_saw(empty, image="0" * 64) == []
    assert "use --image for each of its files" in sightings_text([])


def test_an_image_is_a_file_or_a_sha256_and_one_thing_is_asked_at_a_time(empty, tmp_path):
    (tmp_path / "one.png").write_bytes(b"bytes")

    assert _sha256_of(str(tmp_path / "one.png")) == sha256_bytes(b"bytes")
    assert _sha256_of("AB" * 32) == "ab" * 32
    with pytest.raises(DataError, match=r"--image none.png: no such file, and no sha256"):
        _sha256_of("none.png")
    for given in ({}, {"image": "0" * 64, "group": "7"}):
        with pytest.raises(DataError, match=r"ask about one thing: --image FILE or sha256, or --group VALUE"):
            who_saw(empty, **given)
