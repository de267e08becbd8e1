"""Takes the pictures of docs/images from a finished project, with a headless chromium.

    PYTHONPATH=. python docs/_pictures.py PROJECT SCENARIO

Run `isthmus label SCENARIO` in the project first. The first tutorial's project is what the pictures show. The model's
page is that of `isthmus ui`; Prefect's is that of a cached run, which is started for the picture.
"""

import base64
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.browser import Page, browser
from tests.servers import answers, free_port, running_prefect

HOME = Path(__file__).parent / "images"
FILES = {"report": "report/report.html", "label": "label/label.html"}  # picture -> page below out/SCENARIO
WIDTH, HEIGHT = 1200, 800  # [pixel]
_PATIENCE = 120.0  # [s]


def main(project: Path, scenario: str) -> None:
    """Writes the first screen of each page as PNG."""
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        for name, path in FILES.items():
            page.open((project / "out" / scenario / path).resolve(strict=True).as_uri(), width=WIDTH)
            _take(page, name)
        model = f"isthmus-{scenario}"
        with _ui(project) as address:
            _open(page, f"{address}/#/models/{model}", "Version 1")
            _take(page, "mlflow_model")
        (Path(folder) / "prefect").mkdir()
        with running_prefect(Path(folder) / "prefect", pages=True) as api:
            environment = os.environ | {"PREFECT_API_URL": api}
            subprocess.run(["isthmus", "run", scenario], cwd=project, env=environment, check=True)
            _open(page, f"{api.removesuffix('/api')}/flow-runs/flow-run/{_flow_run(api)}", f"report@{scenario}")
            _take(page, "prefect_run")


def _flow_run(api: str) -> str:
    """Returns the id of the flow run of which there is a verdict, the only one."""
    (run,) = httpx.post(f"{api}/flow_runs/filter", json={}, trust_env=False).raise_for_status().json()
    return str(run["id"])


def _open(page: Page, address: str, text: str) -> None:
    """Opens a page that scripts draw, and waits until it shows a text and for pictures after that."""
    page.open("about:blank")  # else an address that differs after '#' alone loads nothing
    page.open(address, width=WIDTH)
    until = time.monotonic() + _PATIENCE
    while text not in str(page.evaluate("document.body.innerText")):
        assert time.monotonic() < until, f"{address} does not show '{text}' in {_PATIENCE} s"
        time.sleep(0.2)
    time.sleep(3)


def _take(page: Page, name: str) -> None:
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT, "scale": 1}
    taken = page.call("Page.captureScreenshot", format="png", clip=clip)
    (HOME / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))
    print(HOME / f"{name}.png")


@contextmanager
def _ui(project: Path) -> Iterator[str]:
    port = free_port()
    command = ["isthmus", "ui", "--port", str(port)]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _PATIENCE
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None and time.monotonic() < until, "isthmus ui did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
