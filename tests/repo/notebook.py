"""Runs the code of the notebook as a kernel does, cell by cell in one namespace; no kernel has to be installed."""

import json
from pathlib import Path
from typing import Any

from tests.repo import REPOSITORY

NOTEBOOK = json.loads((REPOSITORY / "docs" / "notebooks" / "finished_scenario.ipynb").read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def run_notebook(project: Path, scenario: str) -> dict[str, Any]:
    """Runs all cells on a scenario; returns the names that they leave."""
    import matplotlib

    matplotlib.use("Agg")
    first = CODE[0].replace("Path.cwd()", f"Path({str(project)!r})").replace('"industrial"', f'"{scenario}"')
    names: dict[str, Any] = {}
    for cell in (first, *CODE[1:]):
        exec(compile(cell, "finished_scenario.ipynb", "exec"), names)
    return names
