import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from isthmus.core.errors import DataError
from isthmus.data.catalog import download
from isthmus.data.catalog.download import bring, safe_path

BODY = b"bytes of an image" * 1000
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves one file; `/flaky` breaks off twice, `/busy` answers 503 once, `/short` always breaks off."""

    seen: dict[str, int] = {}

    def do_GET(self) -> None:
        self.seen[self.path] = self.seen.get(self.path, 0) + 1
        if self.path == "/gone" or (self.path == "/busy" and self.seen[self.path] == 1):
            self.send_error(404 if self.path == "/gone" else 503)
            return
        short = self.path == "/short" or (self.path == "/flaky" and self.seen[self.path] < 3)
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY[: 100 if short else None])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(Handler, "seen", {})
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


@pytest.mark.parametrize("path", ["a b.jpg", "flaky", "busy"])
def test_a_file_comes_whole_even_over_a_poor_line(path: str, server: str, tmp_path: Path) -> None:
    bring(server, path, tmp_path / "got", SHA)

    assert (tmp_path / "got").read_bytes() == BODY


def test_a_finished_file_is_not_asked_for_again(server: str, tmp_path: Path) -> None:
    bring(server, "file", tmp_path / "got", SHA)

    bring(server, "file", tmp_path / "got", SHA)

    assert Handler.seen == {"/file": 1}


def test_other_bytes_than_expected_are_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/file: SHA-256 is .*, expected 0000.*nothing was saved"):
        bring(server, "file", tmp_path / "got", "0" * 64)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", "/gone: the server answers 404 Not Found. .*'--mirror'"),
        ("short", r"/short: cannot be reached \(the connection ended after 100 of 17000 bytes\)"),
    ],
)
def test_what_the_server_does_not_give_is_said(path: str, message: str, server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        bring(server, path, tmp_path / "got", SHA)

    assert list(tmp_path.iterdir()) == []


def test_without_a_network_one_message_names_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0))

    with pytest.raises(DataError, match=r"cannot be reached \(.*\)\. Run the same command again .*'--mirror'"):
        bring("http://127.0.0.1:9", "file", tmp_path / "got", SHA)


def test_a_file_over_the_limit_is_refused(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_FILE_BYTES", 1000)
    (tmp_path / "large").write_bytes(BODY)

    with pytest.raises(DataError, match="/file: more than 1000 bytes"):
        bring(server, "file", tmp_path / "got", SHA)
    with pytest.raises(DataError, match="large: 17000 bytes; the limit is 1000"):
        bring(str(tmp_path), "large", tmp_path / "got", SHA)


def test_a_mirror_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mirror/a\.png: cannot be read \(No such file or directory\)\. Is --mirror"):
        bring(str(tmp_path / "mirror"), "a.png", tmp_path / "got", SHA)


@pytest.mark.parametrize("path", ["../a", "/a", "a/../../b", "", "a\\b"])
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(DataError, match=r"manifest: path '.*' leaves its folder"):
        safe_path(path, "manifest")
