import hashlib
from pathlib import Path

import pytest

from isthmus.data.ingest.links import is_foreign


def cached(cache: Path, content: bytes = b"pixels") -> Path:
    """Writes an object as DVC keeps it."""
    md5 = hashlib.md5(content).hexdigest()
    place = cache / "files" / "md5" / md5[:2] / md5[2:]
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    return place


def linked(project: Path, target: Path) -> Path:
    link = project / "data" / "raw" / "demo" / "a.png"
    link.parent.mkdir(parents=True, exist_ok=True)
    (project / ".dvc").mkdir(exist_ok=True)
    link.symlink_to(target)
    return link


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def test_a_file_is_not_foreign(project: Path) -> None:
    (project / "a.png").touch()

    assert not is_foreign(project / "a.png")


@pytest.mark.parametrize("settings", [None, "config", "config.local"])
def test_a_link_into_the_projects_own_cache_is_followed(project: Path, tmp_path: Path, settings: str | None) -> None:
    cache = tmp_path / "team cache" if settings else project / ".dvc" / "cache"
    target = cached(cache)
    target.write_bytes(b"not hashed again: the folder is known")
    link = linked(project, target)
    if settings:
        (project / ".dvc" / settings).write_text(f"[core]\n    analytics = false\n[cache]\n    dir = {cache}\n")

    assert not is_foreign(link)


def test_a_link_into_a_cache_of_the_users_own_settings_is_known_by_its_content(project: Path, tmp_path: Path) -> None:
    assert not is_foreign(linked(project, cached(tmp_path / "elsewhere")))


def test_a_link_to_anything_else_is_foreign(project: Path, tmp_path: Path) -> None:
    secret = tmp_path / "files" / "md5" / "ab" / ("c" * 30)  # placed as in a cache, but its content has another hash
    secret.parent.mkdir(parents=True)
    secret.write_text("secret")
    inside = project / "data" / "other.png"
    inside.parent.mkdir(parents=True)
    inside.touch()
    for target in (secret, inside, Path("/etc/passwd"), Path("nowhere"), Path("a.png"), secret.parent):
        link = linked(project, target)

        assert is_foreign(link), target
        link.unlink()


def test_settings_that_cannot_be_read_name_no_cache(project: Path, tmp_path: Path) -> None:
    cache = cached(tmp_path / "cache")
    cache.write_bytes(b"changed")
    link = linked(project, cache)
    (project / ".dvc" / "config").write_text(f"dir = {tmp_path / 'cache'}\n[cache\n")

    assert is_foreign(link)
