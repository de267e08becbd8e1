"""`isthmus status` of a project whose results are there, published, promoted and then outdated."""

from pathlib import Path

import pytest
import yaml

from isthmus.overview import overview
from isthmus.registry.publish.publish import CHAMPION, model_name, publish
from isthmus.registry.store.stores import open_store


def lines(project: Path) -> dict[str, str]:
    return {name: standing.text(name) for name, standing in overview(project).items()}


@pytest.mark.slow
def test_the_status_follows_a_scenario_from_its_results_to_a_champion_and_to_an_edit(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    document = yaml.safe_load((project / "params.yaml").read_text())

    assert lines(project) == {"demo": "up to date, not published: isthmus publish demo; no champion"}

    version = publish(project, "demo").version
    assert lines(project) == {"demo": "published as version 1; no champion, candidate: version 1"}

    open_store(project).set_alias(model_name("demo"), CHAMPION, version)
    assert lines(project) == {"demo": "published as version 1, which is the champion"}

    document["scenarios"]["later"] = document["scenarios"]["demo"]
    document["train"]["batch_size"] = 7
    (project / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    stale = "stale: changed train@demo-coral, train@demo-source_only"
    assert lines(project) == {
        "demo": f"{stale}: isthmus run demo; champion: version 1, candidate: version 1",
        "later": "not run yet: isthmus run later",
    }
    assert overview(project)["later"]._asdict() == {
        "state": "not run", "changed": [], "version": None, "champion": None, "candidate": None,
    }  # fmt: skip
