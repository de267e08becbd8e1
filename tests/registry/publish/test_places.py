import pytest

from isthmus.registry.publish.publish import Published

PAGE = "http://127.0.0.1:5000/#/models/isthmus-demo/versions/3?workflowType=machine_learning"


def places(uri: str) -> str:
    return Published("demo", "isthmus-demo", "3", "m-1", "r", uri, "k", "s", "out/demo/report", True).places()[-1]


@pytest.mark.parametrize("uri", ["sqlite:////elsewhere/mlflow.db", "postgresql://me:secret@127.0.0.1/mlflow"])
def test_a_store_is_shown_by_the_command_that_starts_its_page_and_never_by_its_address(uri: str) -> None:
    assert places(uri) == f"MLflow: isthmus ui, then {PAGE}"


def test_a_server_is_shown_by_its_page() -> None:
    assert places("http://127.0.0.1:5000/") == f"MLflow: {PAGE}"
