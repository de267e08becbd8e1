import pytest

from isthmus.registry.publish.publish import Published

PAGE = "http://127.0.0.1:5000/#/models/isthmus-demo/versions/3?workflowType=machine_learning"


def published(uri: str, verdict: str = "") -> Published:
    return Published("demo", "isthmus-demo", "3", "m-1", "r", uri, "7", "k", "s", "out/demo/report", True, verdict)


def places(uri: str) -> str:
    return published(uri).places()[-1]


@pytest.mark.parametrize("uri", ["sqlite:////elsewhere/mlflow.db", "postgresql://me:secret@127.0.0.1/mlflow"])
def test_a_store_is_shown_by_the_command_that_starts_its_page_and_never_by_its_address(uri: str) -> None:
    assert places(uri) == f"MLflow: isthmus ui, then {PAGE}"


def test_a_server_is_shown_by_its_page() -> None:
    assert places("http://127.0.0.1:5000/") == places("http://me:secret@127.0.0.1:5000") == f"MLflow: {PAGE}"


def test_the_note_of_a_flow_links_report_model_and_run() -> None:
    note = published("http://host/", "**Good.**").note()

    assert note.startswith("**Good.**\n")
    assert "`out/demo/report/report.html`" in note and "isthmus ui" not in note
    query = "?workflowType=machine_learning"
    run = "experiments/7/runs/r"
    for page in ("models/isthmus-demo/versions/3", run, f"{run}/artifacts/report/report.html"):
        assert f"(http://host/#/{page}{query})" in note
