import pytest

from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import sha256_bytes
from isthmus.registry.stores import open_store
from isthmus.registry.trace import _parsed, _sha256_of, find_version, sightings_text, trace, who_saw
from tests.registry.versions import MODEL, add_version


def test_a_model_is_asked_for_by_alias_version_or_name_with_or_without_the_prefix_of_mlflow():
    assert _parsed("isthmus-demo@candidate") == ("isthmus-demo", "", "candidate")
    assert _parsed("models:/demo/3") == ("demo", "3", "champion")
    assert _parsed("demo") == ("demo", "", "champion")
    with pytest.raises(StoreError, match=r"'a@b@c' names no model. Allowed: NAME@ALIAS, NAME/VERSION, NAME"):
        _parsed("a@b@c")


def test_a_version_is_found_by_the_scenario_or_by_the_registered_name(empty):
    add_version(empty)
    number = add_version(empty)
    store = open_store(empty)

    for asked in ("demo@candidate", f"{MODEL}@candidate", f"demo/{number}", f"models:/{MODEL}/{number}"):
        assert find_version(store, asked).number == number
    assert find_version(store, "demo/1").model_id == store.model_of(MODEL, "1")
    assert store.versions() == [(MODEL, "1"), (MODEL, "2")]


def test_what_is_not_in_the_registry_is_named_with_what_is(empty):
    with pytest.raises(StoreError, match=r"'demo@champion': no model 'demo'. There are: none"):
        trace(empty, "demo@champion")
    add_version(empty)
    store = open_store(empty)

    with pytest.raises(StoreError, match=rf"no model 'steel'. There are: {MODEL}"):
        find_version(store, "steel")
    with pytest.raises(StoreError, match=rf"{MODEL}: no alias 'champion' in .*There are: candidate"):
        find_version(store, "demo")
    with pytest.raises(StoreError, match=rf"{MODEL} has no version 9"):
        find_version(store, "demo/9")


def test_a_version_whose_run_lists_nothing_cannot_be_traced_and_is_no_sighting(empty):
    add_version(empty)

    with pytest.raises(StoreError, match=r"has no lineage.json, which a trace rests on"):
        trace(empty, "demo@candidate")
    assert who_saw(empty, image="0" * 64) == []
    assert "ask with --image for each of its files" in sightings_text([])


def test_an_image_is_a_file_or_a_sha256_and_one_thing_is_asked_at_a_time(empty, tmp_path):
    (tmp_path / "one.png").write_bytes(b"bytes")

    assert _sha256_of(str(tmp_path / "one.png")) == sha256_bytes(b"bytes")
    assert _sha256_of("AB" * 32) == "ab" * 32
    with pytest.raises(DataError, match=r"--image none.png: no such file, and no sha256"):
        _sha256_of("none.png")
    for given in ({}, {"image": "0" * 64, "group": "7"}):
        with pytest.raises(DataError, match=r"ask about one thing: --image FILE or sha256, or --group VALUE"):
            who_saw(empty, **given)
