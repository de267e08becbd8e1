"""Where a project has what `train` reads, for commands that train beside the graph."""

import shlex
from pathlib import Path

from isthmus.core.config import read_yaml


def training_inputs(project: Path, scenario: str, method: str) -> dict[str, Path]:
    """Returns the paths of dvc.yaml's command of `train`, by option: `manifest`, `prepared`, ..., `trained`."""
    command = str(read_yaml(project / "dvc.yaml")["stages"]["train"]["cmd"]).splitlines()[-1]
    words = shlex.split(command.replace("${item.scenario}", scenario).replace("${item.method}", method))
    return {
        flag.removeprefix("--").replace("-", "_"): project / value
        for flag, value in zip(words[3::2], words[4::2], strict=True)
    }
