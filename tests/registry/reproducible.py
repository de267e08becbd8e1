"""A version whose results are made again by one slow DVC stage: what can be killed while it is reproduced."""

from pathlib import Path

from isthmus.core.files import write_json
from isthmus.registry.store.stores import open_store
from tests.pipelines.tiny_project import write_project
from tests.registry.project_files import commit, git
from tests.registry.versions import MODEL


def slow_project(folder: Path, seconds: float) -> Path:
    """Returns a project with version 1 of the model of `demo`; each of its two training stages takes a time [s]."""
    project = write_project(folder, seconds=seconds, git=True)
    (project / ".gitignore").write_text("*.db*\nmlartifacts\n.isthmus\n")
    commit(project)
    store = open_store(project, make=True)
    experiment = store.experiment(MODEL)
    run = store.start_run(experiment, "test", 1000, {})
    raw = {"path": "input.txt", "md5": "0"}
    lineage = {"snapshot": git(project, "rev-parse", "HEAD"), "scenario": "tiny", "raw": raw}
    lineage |= {"lock_entries": {"simulate@tiny": {"outs": [raw]}}}
    for name, values in {"lineage": lineage, "metrics": {}, "truth": {}}.items():
        write_json(project / ".isthmus" / f"{name}.json", values)
        store.log_file(run, project / ".isthmus" / f"{name}.json")
    store.register(MODEL, store.create_model(experiment, run, MODEL, {}), run, {})
    return project
