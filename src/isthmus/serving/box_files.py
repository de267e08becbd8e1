"""Predicted boxes as one COCO file: images, categories, and annotations with a score."""

import json
from pathlib import Path
from typing import Any, TextIO

from isthmus.core.files import atomic_file


class BoxFile:
    """Writes `<out>.boxes.json` while images are answered; no file where the model answers no boxes.

    Boxes are `bbox: [x, y, width, height]` [pixel] with `area`, `iscrowd` 0 and `score`, as COCO's own results, beside
    `images` with `file_name`, `width` and `height`, so that any tool that reads COCO shows them.

    Args:
        path: of the file.
        classes: that have boxes, in order; their ids count from 1.
    """

    def __init__(self, path: Path, classes: list[str]) -> None:
        self._path, self._classes = path, classes
        self._images: list[str] = []
        self._stream: TextIO | None = None
        self._count = 0

    def __enter__(self) -> "BoxFile":
        if self._classes:
            self._file = atomic_file(self._path)
            self._stream = self._file.__enter__().open("w", encoding="utf-8")
            self._stream.write('{"annotations": [')
        return self

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Adds the answer to one image; annotations are written at once, a line each."""
        if self._stream is None:
            return
        number = len(self._images) + 1
        image = {"id": number, "file_name": name, "width": int(row["width"]), "height": int(row["height"])}
        self._images.append(json.dumps(image))
        for found in json.loads(row["boxes"]):
            left, top, right, bottom = found["box"]
            box = [left, top, round(right - left, 4), round(bottom - top, 4)]
            self._stream.write(",\n" if self._count else "\n")
            self._count += 1
            category = self._classes.index(found["label"]) + 1
            entry = {"id": self._count, "image_id": number, "category_id": category, "bbox": box}
            entry |= {"area": round(box[2] * box[3], 4), "iscrowd": 0, "score": found["score"]}
            self._stream.write(json.dumps(entry))

    def __exit__(self, *problem: Any) -> None:
        if self._stream is None:
            return
        categories = [{"id": number, "name": name} for number, name in enumerate(self._classes, 1)]
        listed = ",\n".join(self._images)
        self._stream.write(f'\n],\n"images": [\n{listed}\n],\n"categories": {json.dumps(categories)}}}\n')
        self._stream.close()
        self._file.__exit__(*problem)
