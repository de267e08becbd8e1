"""Which symbolic links among raw images may be followed: those that DVC itself made, into its cache."""

import configparser
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

from isthmus.core.files import md5_file

_OBJECT = re.compile(r"/files/md5/([0-9a-f]{2})/([0-9a-f]{30})$")


def is_foreign(path: Path) -> bool:
    """Returns whether a path is a symbolic link that does not lead to a file in DVC's cache.

    With `cache.type symlink` (a team's cache on another disk) each raw image is such a link. A link elsewhere would
    read another folder's files into the data set.
    """
    if not path.is_symlink():
        return False
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # it leads nowhere, or in a circle
        return True
    found = _OBJECT.search(target.as_posix())
    if not found or not target.is_file():
        return True
    if any(target.is_relative_to(folder) for folder in _caches(path.parent.absolute())):
        return False
    return md5_file(target) != "".join(found.groups())  # of a cache that a user's or the system's settings name


@cache
def _caches(folder: Path) -> tuple[Path, ...]:
    """Returns the cache folders of the project that a folder lies in, as its own settings name them."""
    for parent in (folder, *folder.parents):
        place = parent / ".dvc"
        if place.is_dir():
            found = {place / "cache"}
            for name in ("config", "config.local"):
                settings = configparser.ConfigParser(interpolation=None, strict=False)
                with suppress(configparser.Error):
                    settings.read(place / name, encoding="utf-8")
                if named := settings.get("cache", "dir", fallback=""):
                    found.add(place / named)
            return tuple(sorted(one.resolve() for one in found))
    return ()
