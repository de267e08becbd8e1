"""Where the project is: the folder that holds `params.yaml` and `dvc.yaml`, this one or one above it."""

from pathlib import Path

from isthmus.core.errors import ConfigError

MARKS = ("params.yaml", "dvc.yaml")


def find_project(start: Path | None = None) -> Path:
    """Returns the root of the project that a folder lies in.

    Args:
        start: the folder to look from; None: the current one.

    Raises:
        ConfigError: neither the folder nor one above it is a project.
    """
    try:
        here = (start or Path.cwd()).absolute()
    except FileNotFoundError:
        raise ConfigError("the current folder was deleted. Change into the project's folder") from None
    half = None
    for folder in (here, *here.parents):
        missing = [name for name in MARKS if not (folder / name).is_file()]
        if not missing:
            return folder
        if len(missing) < len(MARKS) and half is None:
            half = f" ({folder} has no {missing[0]}: 'git checkout {missing[0]}' restores a deleted one)"
    raise ConfigError(
        f"{here}: not in a project: neither this folder nor one above it holds {' and '.join(MARKS)}{half or ''}."
        " Change into the folder of your project"
    )
