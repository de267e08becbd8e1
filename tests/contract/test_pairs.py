from pathlib import Path

import pytest

from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.core.files import hash_files
from isthmus.data.audit.summary import Bad
from isthmus.data.ingest.scan import read_image_facts
from isthmus.data.ingest.table import Found
from isthmus.data.pairs import PairConfig

NAMES = plugins.names("data.pairs")


def load(name: str) -> PairConfig:
    try:
        config: PairConfig = plugins.load("data.pairs", name).Config()
    except ConfigError as error:
        pytest.skip(str(error))
    return config


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_says_where_it_comes_from_and_what_shifts(name: str) -> None:
    load(name)
    text = plugins.load("data.pairs", name).__doc__ or ""

    assert "shift" in text
    assert "SIMULATED" in text or "real" in text.lower()


@pytest.mark.slow
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("name", NAMES)
def test_a_pair_writes_readable_images_of_the_same_folders_in_both_domains_and_the_same_bytes_twice(
    name: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, module = load(name).build(), plugins.load("data.pairs", name)
    if jobs := getattr(module, "_jobs", None):  # each image has a seed of its own: some stand for all
        monkeypatch.setattr(module, "_jobs", lambda *arguments: list(jobs(*arguments))[::every])

    pair.write(tmp_path / "one", 0)
    pair.write(tmp_path / "two", 0)

    top = tmp_path / "one" / ("images" if (tmp_path / "one" / "images.csv").is_file() else "")
    domains = sorted(p.name for p in top.iterdir())
    inside = [sorted({p.suffix or p.name for p in (top / domain).iterdir()}) for domain in domains]
    files = sorted(p for p in (tmp_path / "one").rglob("*") if p.is_file() and p.suffix != ".csv")
    assert len(domains) >= 2
    assert all(found == inside[0] for found in inside)
    assert hash_files([tmp_path / "one"]) == hash_files([tmp_path / "two"])
    for masks in (tmp_path / "one").glob("*/masks"):
        beside = [part for part in masks.parent.iterdir() if part != masks]
        assert all(sorted(f.stem for f in part.iterdir()) == sorted(f.stem for f in masks.iterdir()) for part in beside)
        assert {part.name for part in beside} in ({"images"}, {"a", "b"})
    for path in files[:: max(1, len(files) // 20)]:
        found = Found(path.relative_to(tmp_path).as_posix(), "any", None, None, None)
        assert not isinstance(read_image_facts(tmp_path, found, key=b"hides whom a file names"), Bad)
