"""Runs dvc as `python -m dvc` does, but with `params.yaml` as the run found it, where a run keeps a copy of it.

    python -P dvc_process.py repro -s train@steel-coral

DVC has no setting for the file that its templates and parameters are read from. All its readers go through one private
function; dvc is pinned, and a test edits the file in the middle of a run.
"""

import os
import sys
from pathlib import Path
from typing import Any

from isthmus.core.params.params_copy import VARIABLE, as_started

DVC = (sys.executable, "-P", __file__)  # the beginning of every command line of ours that runs dvc


def main() -> int:
    """Runs dvc with this process's arguments and returns its exit status."""
    from dvc.cli import main as run_dvc

    if os.environ.get(VARIABLE):
        from dvc.utils.serialize import _yaml

        load = _yaml._load_data

        def load_as_started(path: Any, *arguments: Any, **options: Any) -> Any:
            return load(os.fspath(as_started(Path(path))), *arguments, **options)

        _yaml._load_data = load_as_started
    return int(run_dvc(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
