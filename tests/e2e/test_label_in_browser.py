"""The page of images to label in a real browser: what is chosen there is saved as a table that is taken back."""

import time
from pathlib import Path

import pytest

from isthmus.data.csv_lines import read_csv
from isthmus.data.labels.given import MEASURE, TRAIN
from isthmus.report.labels.label_page import Asked, label_page
from tests.browser import CHROMIUM, browser
from tests.raw_folders import scenario
from tests.require import require

CLASSES = ["crack", 'good, "as new"', "<b>=1+1"]
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@pytest.mark.slow
def test_classes_chosen_on_the_page_are_saved_as_a_table_and_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    require("chromium", CHROMIUM is not None)
    images = [Asked(n, f"{n:032x}", MEASURE if n < 3 else TRAIN, f"b/<i>{n}.png", "", PIXEL) for n in range(1, 5)]
    page_file = tmp_path / "label.html"
    page_file.write_text(label_page("demo", scenario(classes=CLASSES), images, True), encoding="utf-8")

    with browser(tmp_path / "profile") as page:
        page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "down"))
        page.open(page_file.as_uri())
        for place, number in ((0, 1), (2, 2), (3, 3)):
            page.evaluate(
                f"(s => {{ s.selectedIndex = {number}; s.dispatchEvent(new Event('change', {{bubbles: true}})) }})"
                f"(document.querySelectorAll('select')[{place}])"
            )
        counted = page.evaluate("document.getElementById('count').textContent")
        page.evaluate("document.getElementById('save').click()")
        saved = tmp_path / "down" / "answers.csv"
        until = time.monotonic() + 60
        while not saved.is_file() and time.monotonic() < until:
            time.sleep(0.1)
        page.screenshot(tmp_path / "page.png")
        messages, requests = page.messages, page.requests

    columns, lines = read_csv(saved)
    assert columns == ["image_id", "class"]
    answers = [(line.cells["image_id"], line.cells["class"]) for line in lines]
    assert answers == [(f"{n:032x}", name) for n, name in zip((1, 3, 4), CLASSES, strict=True)]
    assert counted == "3 of 4 answered"
    assert messages == []
    assert [r for r in requests if not r.startswith(("file:", "data:", "blob:"))] == []
