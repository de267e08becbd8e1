"""Loads one registered model in a process of its own and answers batches of image paths, a line of JSON each.

    python -P prediction_process.py models:/m-...        with MLFLOW_TRACKING_URI set

It imports nothing of this project: what runs is the code bundled with the model. One line in: a list of examples, each
a list of its images: a path, or a path and the part of the file. One line out: a list, for each example its row of the
answer, or {"bad": reason}. The first line out says that the model is loaded.
"""

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, BinaryIO, TextIO, TypeVar

T = TypeVar("T")
_Row = dict[str, Any]


def main() -> None:
    """Serves standard input until it ends."""
    answers, asked = own_output(), read_ahead(_read_paths)
    import mlflow

    model = mlflow.pyfunc.load_model(sys.argv[1])
    answers.write('"ready"\n')
    while True:
        answers.write(json.dumps(_rows(model, asked.get())) + "\n")


def own_output() -> TextIO:
    """Returns standard output by lines; what libraries print goes to standard error, not between two answers."""
    output = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return output


def read_ahead(read: Callable[[BinaryIO], T | None]) -> "SimpleQueue[T]":
    """Returns what is read of standard input, in a thread: the process ends when it ends.

    Args:
        read: returns the next item of a stream, None at its end.
    """
    items: SimpleQueue[T] = SimpleQueue()
    stream = os.fdopen(os.dup(0), "rb")  # a thread that reads sys.stdin makes the interpreter abort at its end

    def follow() -> None:
        while (item := read(stream)) is not None:
            items.put(item)
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
    return items


def _read_paths(stream: BinaryIO) -> list[list[Any]] | None:
    line = stream.readline()
    return json.loads(line) if line else None


def _rows(model: Any, examples: list[list[Any]]) -> list[_Row]:
    try:
        return _predicted(model, examples)
    except Exception as error:
        if not _about_data(error):
            raise
        if len(examples) == 1:
            return [{"bad": str(error).removeprefix("image 0: ")}]
        return [row for example in examples for row in _rows(model, [example])]  # find the bad ones


def _predicted(model: Any, examples: list[list[Any]]) -> list[_Row]:
    import pandas as pd

    columns = [list(map(_image, images)) for images in zip(*examples, strict=True)]
    answer = model.predict(pd.DataFrame(dict(zip(("image", "image_b"), columns, strict=False))))
    rows: list[_Row] = answer.to_dict("records")
    return rows


def _image(given: Any) -> Any:
    return Path(given) if isinstance(given, str) else (Path(given[0]), given[1])


def _about_data(error: BaseException | None) -> bool:
    # by name: the class is that of the bundled code, which is not ours to import
    named = error is not None and any(kind.__name__ == "DataError" for kind in type(error).__mro__)
    return error is not None and (named or _about_data(error.__cause__))


if __name__ == "__main__":
    main()
