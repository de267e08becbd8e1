"""Drives a headless chromium over the DevTools protocol: just what tests of a page need."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
_PATIENCE = 60.0  # [s] for a browser that starts on a busy machine


class Page:
    """One tab. `messages` are console entries and errors, `requests` the addresses that were asked for."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last = 0
        self._events: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends one command and returns its result."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while (message := self._receive()).get("id") != self._last:
            pass
        assert "error" not in message, message["error"]
        result: dict[str, Any] = message["result"]
        return result

    def open(self, address: str, *, width: int = 1400, dark: bool = False, scripts: bool = True) -> None:
        """Loads a page and waits until it is complete."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.show(width, dark)
        self._events.clear()
        self.call("Page.navigate", url=address)
        until = time.monotonic() + _PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            assert time.monotonic() < until, f"{address} did not load in {_PATIENCE} s"
            self._receive()

    def show(self, width: int, dark: bool) -> None:
        """Sets the width of the window [pixel] and the colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """Returns the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """Returns all text of the document; works with scripts switched off too."""
        root = self.call("DOM.getDocument", depth=0)["root"]["nodeId"]
        html = self.call("DOM.getOuterHTML", nodeId=root)["outerHTML"]
        return str(html)

    def screenshot(self, path: Path) -> None:
        """Writes the whole page as PNG."""
        image = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(image["data"]))

    def pdf(self) -> bytes:
        """Returns the page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=_PATIENCE))
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.exceptionThrown":
                self.messages.append(params["exceptionDetails"]["text"])
            case "Runtime.consoleAPICalled":
                self.messages.append(str([argument.get("value") for argument in params["args"]]))
            case "Log.entryAdded":
                self.messages.append(params["entry"]["text"])
        if "method" in message:
            self._events.append(message)
        return message


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Starts chromium with a fresh profile, yields its tab, and ends the browser with all its children."""
    assert CHROMIUM is not None
    with (profile.parent / f"{profile.name}.log").open("wb") as log:
        process = subprocess.Popen(
            [CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            with connect(_tab(profile), max_size=None, open_timeout=_PATIENCE, proxy=None) as socket:
                yield Page(socket)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)


def _tab(profile: Path) -> str:
    from urllib.request import ProxyHandler, build_opener

    until = time.monotonic() + _PATIENCE
    port_file = profile / "DevToolsActivePort"
    while True:
        if port_file.exists() and (lines := port_file.read_text().splitlines()):
            opener = build_opener(ProxyHandler({}))
            with opener.open(f"http://127.0.0.1:{lines[0]}/json/list", timeout=_PATIENCE) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        assert time.monotonic() < until, f"chromium did not start in {_PATIENCE} s; see {profile}.log"
        time.sleep(0.1)
