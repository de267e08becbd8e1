"""Loads one registered model in a process of its own and answers batches of image paths, a line of JSON each.

    python -P prediction_process.py models:/m-...        with MLFLOW_TRACKING_URI set

It imports nothing of this project: what runs is the code bundled with the model. One line in: a list of paths. One line
out: a list, for each path its row of the answer, or {"bad": reason}. The first line out says that the model is loaded.
"""

import json
import sys
from pathlib import Path
from typing import Any, TextIO

_Row = dict[str, Any]


def main() -> None:
    """Serves standard input until it ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints must not stand between two answers
    import mlflow

    model = mlflow.pyfunc.load_model(sys.argv[1])
    _say(answers, "ready")
    for line in sys.stdin:
        _say(answers, _rows(model, json.loads(line)))


def _rows(model: Any, paths: list[str]) -> list[_Row]:
    try:
        return _predicted(model, paths)
    except Exception as error:
        if not _about_data(error):
            raise
        if len(paths) == 1:
            return [{"bad": str(error).removeprefix("image 0: ")}]
        return [row for path in paths for row in _rows(model, [path])]  # find the bad ones


def _predicted(model: Any, paths: list[str]) -> list[_Row]:
    import pandas as pd

    answer = model.predict(pd.DataFrame({"image": [Path(path) for path in paths]}))
    rows: list[_Row] = answer.to_dict("records")
    return rows


def _about_data(error: BaseException | None) -> bool:
    # by name: the class is that of the bundled code, which is not ours to import
    return error is not None and (type(error).__name__ == "DataError" or _about_data(error.__cause__))


def _say(stream: TextIO, value: Any) -> None:
    stream.write(json.dumps(value) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
