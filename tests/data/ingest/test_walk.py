import errno
import os
import socket
from pathlib import Path

import pytest

from isthmus.data.ingest.walk import refusal, walk
from tests.hostile_files import nest, remove_nest, sparse

BESIDE = {
    "annotations and tables": "a.txt a.json a.xml labels.csv participants.tsv DICOMDIR bounding_boxes labels.names",
    "documents": "README README.md LICENSE licence.pdf COPYING CITATION",
    "geographic side files": "a.tfw a.jgw a.PGW a.wld a.prj a.cpg a.tif.ovr a.tif.msk a.shp a.geojson",
    "checksums": "a.md5 SHA256SUMS md5sums checksums.txt a.sha512",
    "system": "Thumbs.db desktop.ini ehthumbs.db a.png~ ~$list.xlsx a.png.part @eaDir/ __MACOSX/ #recycle/ lost+found/",
    "hidden": ".DS_Store ._a.png .Trashes/ .git/",
}


@pytest.mark.parametrize("kind", BESIDE)
def test_what_lies_beside_images_is_counted_by_kind_and_never_an_image(kind: str, tmp_path: Path) -> None:
    names = BESIDE[kind].split()
    for name in names:
        place = tmp_path / "deep" / name
        if name.endswith("/"):
            place.mkdir(parents=True)
            (place / "inside.png").write_bytes(b"x")
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("words")

    found = walk(tmp_path)

    assert (found.files, found.refused) == ({}, {})
    assert dict(found.beside) == {kind: len(names)}


def test_a_side_file_of_gdal_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset/>")
    (tmp_path / "a.tif").write_bytes(b"II*\0")

    assert list(walk(tmp_path).files) == ["a.tif"]


def test_a_file_without_a_suffix_is_an_image_unless_it_is_text(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(600))
    (tmp_path / "1.2.840.113").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "photo").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "empty").touch()
    (tmp_path / "labels").write_text("crack, käse\n" * 200)

    found = walk(tmp_path)

    assert list(found.files) == ["1.2.840.113", "IM0001", "empty", "photo"]
    assert found.beside == {"annotations and tables": 1}


def test_pipes_sockets_links_and_sparse_files_are_refused_unopened_with_their_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.chdir(tmp_path)  # the name of a socket has a hundred signs at most
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("socket.png")
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    sparse(tmp_path / "sparse.tif")
    (tmp_path / "a.png").write_bytes(b"x")

    found = walk(tmp_path)

    assert list(found.files) == ["a.png"]
    assert found.refused == {
        "link.png": "symbolic link: refused, not followed",
        "loop": "symbolic link: refused, not followed",
        "pipe.png": "a named pipe and no file: refused, not opened",
        "socket.png": "a socket and no file: refused, not opened",
        "sparse.tif": found.refused["sparse.tif"],
    }
    assert found.refused["sparse.tif"].startswith("sparse file: refused (30.0 GB declared, 0.0")
    assert refusal(Path("/dev/null")) == "a device and no file: refused, not opened"
    assert refusal(tmp_path / "nowhere") == "cannot be accessed (No such file or directory)"
    assert refusal(tmp_path / "a.png") == ""


def test_fifteen_hundred_folders_in_each_other_are_one_refused_entry(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    nest(tmp_path / "deep")

    found = walk(tmp_path)

    assert list(found.files) == ["a.png"]
    assert list(found.refused.values()) == ["folder is more than 64 folders deep: not entered"]
    remove_nest(tmp_path / "deep")


def test_a_folder_that_cannot_be_opened_is_one_refused_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("open", "locked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"x")
    real = os.scandir

    def scandir(folder: Path) -> object:  # root, as whom tests often run, may open everything
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    found = walk(tmp_path)

    assert list(found.files) == ["open/a.png"]
    assert found.refused == {"locked": "folder cannot be opened (Permission denied)"}


def test_paths_come_in_order_with_sizes_and_what_they_begin_with(tmp_path: Path) -> None:
    for name in ("b/1.png", "a/2.png", "a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"xyz")
    (tmp_path / "empty").mkdir()
    (tmp_path / "b" / "table.csv").write_text("a\n")

    found = walk(tmp_path, "line/")

    assert found.files == {"line/a.png": 3, "line/a/2.png": 3, "line/b/1.png": 3}
    assert (found.folders, found.tables, found.notes) == (["a", "b", "empty"], ["b/table.csv"], {"b"})
    assert walk(tmp_path).is_empty("empty") and not walk(tmp_path).is_empty("b")
    assert found.numbers()["line/a/2.png"] == 2
