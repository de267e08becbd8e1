"""What lies in a folder: files that may be images, files that lie beside images, and what is refused without opening.

No folder stops or hangs the walk: of links only those into DVC's cache are followed, pipes, sockets and devices are
never opened, and a folder that cannot be entered, or lies too deep, is one refused entry.
"""

import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.data.ingest.links import is_foreign
from isthmus.data.names import is_text

_DEEPEST = 64  # folders inside each other; deeper nesting is a loop or an attack
_SPARSE = 2**30, 100  # [byte] and above it, [ratio] of a file's size to what lies on the disk
_HEAD = 512  # [byte] of a file without a suffix that are looked at
_SYSTEM = {
    "__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "autorun.inf", "icon\r",
    "recycler", "@recycle", "@recently-snapshot", "network trash folder", "temporary items",
}  # fmt: skip
_DOCUMENTS = ("readme", "license", "licence", "copying", "notice", "changelog", "authors", "citation", "contributing")
ANNOTATIONS = "annotations and tables"
# Kind -> suffixes of files that lie beside images; none of them is a format of images.
_BESIDE = {
    ANNOTATIONS: (
        "txt json jsonl ndjson xml csv tsv yaml yml toml ini cfg conf log hdr parquet feather arrow xls xlsx ods db"
        " sqlite bval bvec names labels lst"
    ),
    "documents": "md rst pdf doc docx odt rtf html htm bib tex ppt pptx",
    "geographic side files": (
        "tfw tifw tiffw jgw jpw jpgw jpegw pgw pngw bpw bmpw j2w gfw wld prj cpg shp shx dbf sbn sbx qix qpj qml"
        " geojson gpkg kml kmz gml ovr msk aux rrd rpb rpc imd til eph att vrt clr met mtl"
    ),
    "checksums": "md5 sha1 sha224 sha256 sha384 sha512 sfv crc crc32 asc sig par2",
    "programs": "py ipynb m r sh bat cmd ps1 exe dll lnk url webloc js css",
    "system": "tmp temp bak swp part crdownload partial download",
}
_KINDS = {f".{suffix}": kind for kind, suffixes in _BESIDE.items() for suffix in suffixes.split()}
TABLES = (".csv", ".tsv", ".parquet")


@dataclass
class Walked:
    """What a folder holds; paths are relative to it, with '/', in their order.

    Attributes:
        files: path -> size [byte] of each file that may be an image.
        refused: path -> why it is refused without opening.
        beside: kind of file -> how many lie beside the images; a folder of the system counts as one.
        notes: folders in which files lie beside images; "" is the folder itself.
        folders: the sub-folders, without those of the system.
        tables: CSV, TSV and parquet files, which may say what the images are.
    """

    files: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    beside: Counter[str] = field(default_factory=Counter)
    notes: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)

    def is_empty(self, folder: str) -> bool:
        """Returns whether nothing at all lies in a sub-folder, at any depth."""
        paths = (*self.files, *self.refused, *(f"{note}/" for note in self.notes))
        return not any(path.startswith(f"{folder}/") for path in paths)

    def numbers(self) -> dict[str, int]:
        """Returns path -> number from 1, of all that may be an image, in the order of the paths."""
        return {path: number for number, path in enumerate(sorted({*self.files, *self.refused}), 1)}


def walk(folder: Path, before: str = "") -> Walked:
    """Walks a folder and all in it.

    Args:
        folder: where to begin; itself followed if it is a link.
        before: what each path begins with, such as a domain's name and '/'.
    """
    found, pending = Walked(), [("", 0)]
    while pending:
        inside, depth = pending.pop()
        try:
            with os.scandir(folder / inside) as entries:
                for entry in entries:
                    path = f"{inside}{entry.name}"
                    if (kind := _ignored(entry)) is not None:
                        found.beside[kind] += 1
                        found.notes.add(inside.rstrip("/"))
                        if entry.name.casefold().endswith(TABLES) and kind not in ("hidden", "system"):
                            found.tables.append(path)
                    elif entry.is_dir(follow_symlinks=False):
                        found.folders.append(path)
                        if depth < _DEEPEST:
                            pending.append((f"{path}/", depth + 1))
                        else:
                            found.refused[path] = f"folder is more than {_DEEPEST} folders deep: not entered"
                    else:
                        _sort_in(found, entry, path)
        except OSError as error:
            found.refused[inside.rstrip("/")] = f"folder cannot be opened ({error.strerror})"
    return Walked(
        {f"{before}{path}": found.files[path] for path in sorted(found.files)},
        {f"{before}{path}".rstrip("/"): found.refused[path] for path in sorted(found.refused)},
        found.beside,
        found.notes,
        sorted(found.folders),
        sorted(found.tables),
    )


def refusal(path: Path) -> str:
    """Returns why a file is refused without opening, empty where it is a regular file that may be read."""
    try:
        return _refusal(_state(path))
    except OSError as error:
        return f"cannot be accessed ({error.strerror})"


def beside_kind(name: str) -> str | None:
    """Returns what kind of file beside images a name stands for, None for one that may be an image.

    >>> beside_kind("a.tif.aux.xml"), beside_kind("scan.dcm"), beside_kind("LICENSE")
    ('annotations and tables', None, 'documents')
    """
    low = name.casefold()
    if low in _SYSTEM or low.endswith("~") or low.startswith("~$"):
        return "system"
    if low == "dicomdir":
        return ANNOTATIONS
    if low.endswith("sums") or low.startswith(("checksum", "md5sum", "sha256sum")):
        return "checksums"
    stem, suffix = _split(low)
    if not suffix and stem.startswith(_DOCUMENTS):
        return "documents"
    return _KINDS.get(suffix)


def _ignored(entry: os.DirEntry[str]) -> str | None:
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_dir(follow_symlinks=False):
        return "system" if entry.name.casefold() in _SYSTEM else None
    if entry.is_symlink() and is_foreign(Path(entry.path)):
        return None
    return beside_kind(entry.name) if entry.is_file() else None


def _sort_in(found: Walked, entry: os.DirEntry[str], path: str) -> None:
    try:
        state = _state(Path(entry.path)) if entry.is_symlink() else entry.stat(follow_symlinks=False)
    except OSError as error:
        found.refused[path] = f"cannot be accessed ({error.strerror})"
        return
    if reason := _refusal(state):
        found.refused[path] = reason
    elif _is_note(entry, state.st_size):
        found.beside[ANNOTATIONS] += 1
        found.notes.add(path.rpartition("/")[0])
    else:
        found.files[path] = state.st_size


def _state(path: Path) -> os.stat_result:
    """Returns the state of a path, or of what it leads to where it is a link into DVC's cache."""
    state = path.lstat()
    return path.stat() if stat.S_ISLNK(state.st_mode) and not is_foreign(path) else state


def _refusal(state: os.stat_result) -> str:
    mode = state.st_mode
    if stat.S_ISLNK(mode):
        return "symbolic link: refused, not followed"
    if not stat.S_ISREG(mode):
        tests = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
        what = next((word for test, word in tests if test(mode)), "a device")
        return f"{what} and no file: refused, not opened"
    least, ratio = _SPARSE
    on_disk = getattr(state, "st_blocks", state.st_size) * 512
    if state.st_size > least and on_disk * ratio < state.st_size:
        return f"sparse file: refused ({state.st_size / 1e9:.1f} GB declared, {on_disk / 1e9:.3f} GB on the disk)"
    return ""


def _split(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix) if stem else (name, "")


def _is_note(entry: os.DirEntry[str], size: int) -> bool:
    """Returns whether a file without a suffix is text; scanners write DICOM so, and people write lists."""
    suffix = _split(entry.name)[1]
    if any(sign.isalpha() for sign in suffix) or not size:
        return False
    try:
        with open(entry.path, "rb") as stream:  # noqa: PTH123 - half of the time of a Path, for each file
            head = stream.read(_HEAD)
    except OSError:
        return False
    if b"\0" in head:
        return False
    return is_text(os.fsdecode(head)[: -4 if len(head) == _HEAD else None])
