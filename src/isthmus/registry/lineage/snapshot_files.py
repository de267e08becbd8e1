"""Which files a snapshot takes: an allow-list of what the pipeline needs. Data, models and keys are never taken.

Patients' images, keys and notes lie beside the code in many project folders, and a commit travels.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from isthmus.core.config import read_yaml
from isthmus.core.errors import ConfigError

# From the project's root; taken even where git is told to ignore them. A scenario's raw folder adds its pointer.
_NEEDED = (
    "params.yaml", "dvc.yaml", "dvc.lock", "prefect.yaml", "pyproject.toml", "isthmus.lock",
    "requirements*.lock", "requirements*.txt",
    ".dvcignore", ".gitignore", ".gitattributes", ".dvc/config", ".dvc/.gitignore",
    "data/*.dvc", "data/.gitignore", "data/*/*.dvc", "data/*/.gitignore",
)  # fmt: skip
# Code: taken where git does not ignore it.
_CODE_FOLDERS = ("plugins", "src", "pipelines")
_CODE = frozenset({".py", ".pyi", ".jinja", ".j2", ".html", ".css", ".js"})
_NEVER = {
    "images and volumes": "dcm dicom ima nii mha mhd nrrd mgz img hdr svs ndpi mrxs czi lif tif tiff gtiff geotiff jp2"
    " j2k vrt png jpg jpeg jfif jpe bmp gif webp heic heif avif raw dng cr2 nef mp4 avi mov",
    "arrays and tables": "npy npz mat h5 hdf5 nc zarr lmdb tfrecord parquet feather arrow orc csv tsv xls xlsx ods sav"
    " dta sas7bdat",
    "databases and archives": "db sqlite sqlite3 db-wal db-shm db-journal mdb gz bz2 xz zst zip tar tgz 7z rar",
    "models": "safetensors pt pth ckpt onnx engine pkl pickle joblib keras pb tflite gguf bin model weights",
    "keys": "pem key p8 p12 pfx jks keystore ppk asc gpg kdbx crt cer der",
}
_NEVER_SUFFIXES = frozenset(f".{suffix}" for suffixes in _NEVER.values() for suffix in suffixes.split())
_NEVER_NAMES = re.compile(
    r"(.*\.)?env|\.env\.(?!example$|sample$|template$).*|\.envrc|\.netrc|\.pgpass|\.pypirc|\.npmrc|\.git-credentials"
    r"|config\.local|id_(rsa|dsa|ecdsa|ed25519).*|.*(secret|credential|passw(or)?d).*"
)
_KEY_INSIDE = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY|^\s*(password|secret_access_key|session_token|account_key|sas_token"
    rb"|connection_string|\w*client_secret)\s*=",
    re.MULTILINE,
)
_LOOKED_AT = 65536  # [byte] of a new file
_SHOWN = 5  # names in a message


def never_taken(path: str) -> bool:
    """Says whether a path is that of data, a model or a key, by its name alone.

    >>> [never_taken(p) for p in ("incoming/x.DCM", "a/scan.nii.gz", "x.dcm.bak", ".env", "src/secret.py", "dvc.lock")]
    [True, True, True, True, False, False]
    """
    name = PurePosixPath(path.lower())
    if name.suffix in _CODE:
        return False
    return not _NEVER_SUFFIXES.isdisjoint(name.suffixes) or bool(_NEVER_NAMES.fullmatch(name.name))


def needed_files(project: Path, untracked: Sequence[str]) -> list[str]:
    """Returns what the pipeline needs, from the project's root; files that git tracks may be among it.

    Args:
        project: its root.
        untracked: what git neither tracks nor ignores, from the project's root.
    """
    known = [file.relative_to(project).as_posix() for place in _NEEDED for file in project.glob(place)]
    folders = tuple(f"{folder}/" for folder in _CODE_FOLDERS)
    code = [path for path in untracked if path.startswith(folders) and PurePosixPath(path).suffix in _CODE]
    return list(dict.fromkeys([*known, *raw_pointers(project), *code]))


def raw_pointers(project: Path) -> list[str]:
    """Returns DVC's pointer to each scenario's raw folder, from the project's root, whether it is there or not."""
    try:
        scenarios = read_yaml(project / "params.yaml").get("scenarios") or {}
    except ConfigError:
        return []
    raw = [
        Path(str(section["raw"])) for section in scenarios.values() if isinstance(section, dict) and "raw" in section
    ]
    return [f"{place}.dvc" for place in raw if not place.is_absolute() and ".." not in place.parts]


def may_be_new(top: Path, path: Path, pointers: set[str]) -> bool:
    """Says whether a file that the last commit does not hold may be taken: text, of no refused name, no key in it.

    Links are not followed, and folders of another repository not entered: what they lead to is not the project's.

    Args:
        top: the repository's root.
        path: of the file, from there.
        pointers: paths that are taken whatever their name looks like.
    """
    file = top / path
    above = [top / parent for parent in path.parents][:-1]
    if any(folder.is_symlink() or (folder / ".git").exists() for folder in above):
        return False
    if file.is_symlink() or not file.is_file() or (never_taken(path.as_posix()) and path.as_posix() not in pointers):
        return False
    with file.open("rb") as stream:
        head = stream.read(_LOOKED_AT)
    return b"\0" not in head and not _KEY_INSIDE.search(head)


def places(paths: Sequence[str]) -> str:
    """Returns some paths for a message: whole where code is, else the first folder with its count.

    >>> places(["incoming/smith/1", "incoming/smith/2", "plugins/new.yaml", "notes.txt"])
    'incoming/ (2), plugins/new.yaml, notes.txt'
    """
    counts = Counter(path if path.startswith(_CODE_FOLDERS) else _first(path) for path in paths)
    shown = [f"{place} ({count})" if place.endswith("/") else place for place, count in counts.items()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(shown[:_SHOWN]) + more


def _first(path: str) -> str:
    first, slash, _ = path.partition("/")
    return first + slash
