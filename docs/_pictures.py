"""Takes the pictures of docs/images from a finished project, with a headless chromium.

    PYTHONPATH=. python docs/_pictures.py PROJECT SCENARIO

Run `isthmus label SCENARIO` in the project first. The first tutorial's project is what the pictures show.
"""

import base64
import sys
import tempfile
from pathlib import Path

from tests.browser import browser

PICTURES = {"report": "report/report.html", "label": "label/label.html"}  # picture -> page below out/SCENARIO
WIDTH, HEIGHT = 1200, 800  # [pixel]


def main(project: Path, scenario: str) -> None:
    """Writes the first screen of each page as PNG."""
    home = Path(__file__).parent / "images"
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        for name, path in PICTURES.items():
            file = (project / "out" / scenario / path).resolve(strict=True)
            page.open(file.as_uri(), width=WIDTH)
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
            taken = page.call("Page.captureScreenshot", format="png", clip=clip)
            (home / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))
            print(home / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
