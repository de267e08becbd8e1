import pytest

from isthmus.core.errors import ConfigError, StoreError
from isthmus.registry.publish.model_reference import parsed, resolve
from isthmus.registry.store.stores import open_store
from tests.registry.versions import MODEL, add_version


def test_a_model_is_asked_for_by_alias_version_or_name_with_or_without_the_prefix_of_mlflow():
    assert parsed("isthmus-demo@candidate") == ("isthmus-demo", "", "candidate")
    assert parsed("models:/demo/3") == ("demo", "3", "champion")
    assert parsed("demo") == ("demo", "", "champion")
    with pytest.raises(ConfigError, match=r"'a@b@c' names no model. Allowed: NAME@ALIAS, NAME/VERSION, NAME"):
        parsed("a@b@c")


def test_a_version_is_found_by_the_scenario_or_by_the_registered_name(empty):
    add_version(empty)
    number = add_version(empty)
    store = open_store(empty)

    for asked in ("demo@candidate", f"{MODEL}@candidate", f"demo/{number}", f"models:/{MODEL}/{number}"):
        assert resolve(store, asked).version == number
    assert resolve(store, "demo/1").model_id == store.model_of(MODEL, "1")
    assert store.versions() == [(MODEL, "1"), (MODEL, "2")]


def test_to_find_a_model_the_versions_of_others_are_not_listed(empty, monkeypatch):
    number, store = add_version(empty), open_store(empty)
    store._client.create_registered_model("somebody-elses")
    monkeypatch.setattr(store._client, "search_model_versions", lambda *_, **__: pytest.fail("listed"))

    assert resolve(store, "demo@candidate").version == number
    assert store.models() == [MODEL, "somebody-elses"]


def test_what_is_not_in_the_registry_is_named_with_what_is(empty):
    store = open_store(empty)
    with pytest.raises(StoreError, match=r"'demo@champion': no model 'demo' in .*There are: none; 'isthmus publish"):
        resolve(store, "demo@champion")
    add_version(empty)

    with pytest.raises(StoreError, match=rf"no model 'steel' in .*There are: {MODEL}"):
        resolve(store, "steel")
    with pytest.raises(StoreError, match=rf"{MODEL}: no alias 'champion' in .*There are: candidate"):
        resolve(store, "demo")
    with pytest.raises(StoreError, match=r"no alias 'candidat' in .*Did you mean 'candidate'\? There are: candidate"):
        resolve(store, "demo@candidat")
    with pytest.raises(StoreError, match=rf"{MODEL} has no version 9"):
        resolve(store, "demo/9")
