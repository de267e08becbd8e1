from pipelines.graph import StageNode
from pipelines.progress import Progress
from pipelines.runner import Outcome

NODES = [
    StageNode("first", (), "cached"),
    StageNode("train@tiny-a", ("first",), "changed"),
    StageNode("train@tiny-b", ("first",), "changed"),
    StageNode("report@tiny", ("train@tiny-a", "train@tiny-b"), "changed"),
]


def test_stages_whose_dependencies_are_finished_are_ready() -> None:
    progress = Progress(NODES)

    assert progress.ready() == ["train@tiny-a", "train@tiny-b"]


def test_a_stage_becomes_ready_when_the_last_of_its_dependencies_ends() -> None:
    progress = Progress(NODES)

    line = progress.finish("train@tiny-a", Outcome("done", "", 12.3))
    assert progress.ready() == ["train@tiny-b"]
    progress.finish("train@tiny-b", Outcome("cached", "", 0.5))

    assert line == "train@tiny-a: done in 12.3 s (2 of 4 stages)"
    assert progress.ready() == ["report@tiny"]


def test_what_needs_a_failed_stage_is_not_run_and_the_rest_is() -> None:
    progress = Progress(NODES)

    line = progress.finish("train@tiny-a", Outcome("failed", "train@tiny-a: no light", 1.0))

    assert line == "train@tiny-a: failed in 1.0 s (1 of 4 stages)"
    assert progress.ready() == ["train@tiny-b"]
    progress.finish("train@tiny-b", Outcome("done", "", 1.0))
    assert progress.ready() == []
    progress.close()
    assert progress.states["report@tiny"] == "not run"
    assert progress.messages == ["train@tiny-a: no light"]


def test_the_table_shows_every_stage_its_state_and_its_seconds() -> None:
    progress = Progress(NODES[:2])
    progress.finish("train@tiny-a", Outcome("done", "", 12.345))

    assert progress.table().splitlines()[2:] == ["| first | cached |  |", "| train@tiny-a | done | 12.3 |"]
