from pathlib import Path

import pytest

from isthmus.registry.publish.publish import Published


def places(uri: str) -> str:
    return Published("demo", "isthmus-demo", "3", "m-1", "r", uri, "k", "s", "out/demo/report", True).places()[-1]


def test_the_projects_own_store_is_shown_as_it_is_typed_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert "--backend-store-uri sqlite:///mlflow.db --port" in places(f"sqlite:///{tmp_path / 'mlflow.db'}")


@pytest.mark.parametrize("uri", ["sqlite:////elsewhere/mlflow.db", "postgresql://me:secret@127.0.0.1/mlflow"])
def test_another_store_is_named_by_its_variable_and_its_password_is_not_shown(uri: str) -> None:
    assert "--backend-store-uri $MLFLOW_TRACKING_URI --port" in places(uri)
    assert "secret" not in places(uri)


def test_a_server_is_shown_by_its_page() -> None:
    assert places("http://127.0.0.1:5000/").endswith("http://127.0.0.1:5000/#/models/isthmus-demo/versions/3")
