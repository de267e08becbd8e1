"""A copy of `params.yaml` per run, so that edits during a run do not change it.

`isthmus run` keeps a copy and names it in the environment of all that it starts. Each of these reads the copy in place
of the file: our own reader (`yaml_file.py`) and DVC (`dvc_process.py`). Without the variable the file itself is read.
"""

import os
from pathlib import Path

VARIABLE = "ISTHMUS_PARAMS_COPY"
NAME = "params.yaml"
FOLDER = Path(".isthmus") / "running"  # in the project, so that a copy identifies its project


def as_started(path: Path) -> Path:
    """Returns the run's copy of a project's `params.yaml`, and any other path as it is."""
    copy = Path(os.environ.get(VARIABLE) or "")
    if not copy.name or path.name != NAME or not copy.is_file():
        return path
    project = copy.parents[len(FOLDER.parts)]
    return copy if path.exists() and project.samefile(path.absolute().parent) else path
