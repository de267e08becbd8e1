"""What a hostile or broken client may send to a served model, and the statuses that are right for it.

Each case is raw bytes on a connection of its own, so that nothing between the test and the server mends it.
"""

import base64
import gzip
import io
import json
import re
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import Image

REFUSED = (400, 404, 405, 408, 413, 414, 415, 431, 503)


class Case(NamedTuple):
    """One request.

    Attributes:
        name: what is wrong with it.
        parts: sent one after another.
        allowed: statuses; 0 is a connection that the server closes without an answer.
        message: part of the answer.
        pause: between two parts [s].
    """

    name: str
    parts: list[bytes]
    allowed: tuple[int, ...] = (400,)
    message: str = ""
    pause: float = 0.0


def post(body: bytes, content_type: str = "application/json", *more: str, length: int | None = None) -> bytes:
    """Returns a whole request to `/invocations`."""
    head = ["POST /invocations HTTP/1.1", "Host: x", f"Content-Type: {content_type}", *more]
    if not any(line.lower().startswith("transfer-encoding") for line in more):
        head.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*head, "Connection: close", "", ""]).encode("utf-8", "surrogateescape") + body


def asking(*images: bytes) -> bytes:
    """Returns the documented body for image files."""
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(i).decode()} for i in images]}).encode()


def picture(width: int = 24, height: int = 30, form: str = "PNG", **options: object) -> bytes:
    """Returns an image file of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 40, 40)).save(stream, form, **options)
    return stream.getvalue()


def png_of(width: int, height: int, rows: int | None = None) -> bytes:
    """Returns a PNG of black rows, all of them or the first few: its header and 1 kB a megabyte of zeros."""
    packed = zlib.compressobj(9)
    data = b"".join(packed.compress(bytes(1 + width)) for _ in range(height if rows is None else rows)) + packed.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )


def tiff_of(width: int, height: int, count: int = 1, *, endless: bool = False) -> bytes:
    """Returns a TIFF of one byte of pixels that declares any size, `count` pages, or pages in a circle."""
    pages = b""
    for page in range(count):
        place = 8 + page * (2 + 9 * 12 + 4)
        entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
        entries += [(278, 4, height), (279, 4, 1)]
        follows = place + 2 + 9 * 12 + 4 if page + 1 < count else (8 if endless else 0)
        fields = b"".join(struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in entries)
        pages += struct.pack("<H", 9) + fields + struct.pack("<I", follows)
    return struct.pack("<2sHI", b"II", 42, 8) + pages


def bmp_of(width: int, height: int) -> bytes:
    """Returns a BMP without pixels that declares any size."""
    return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def nifti_of(*sides: int) -> bytes:
    """Returns the header of a NIfTI-1 file with these sides."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(sides), *sides, *[1] * (7 - len(sides)))
    struct.pack_into("<hh", head, 70, 2, 8)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    return bytes(head)


def dicom_of(rows: int, columns: int, frames: int = 1, *, spacing: str = "", pixels: bytes = b"\0\0") -> bytes:
    """Returns a grey DICOM file, explicit little endian, that declares any size."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        long = kind in (b"OB", b"OW")
        length = struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))
        return struct.pack("<HH", group, number) + kind + length + value

    short = lambda value: struct.pack("<H", value)  # noqa: E731
    syntax = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    meta = element(2, 0, b"UL", struct.pack("<I", len(syntax))) + syntax
    body = element(8, 0x60, b"CS", b"CT") + element(0x28, 2, b"US", short(1))
    body += element(0x28, 4, b"CS", b"MONOCHROME2") + element(0x28, 8, b"IS", str(frames).encode())
    body += element(0x28, 0x10, b"US", short(rows)) + element(0x28, 0x11, b"US", short(columns))
    body += element(0x28, 0x30, b"DS", spacing.encode()) if spacing else b""
    for number, value in ((0x100, 8), (0x101, 8), (0x102, 7), (0x103, 0)):
        body += element(0x28, number, b"US", short(value))
    return bytes(128) + b"DICM" + meta + body + element(0x7FE0, 0x10, b"OW", pixels)


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """Returns a progressive JPEG whose last pass stands there many times: each is decoded over the whole image."""
    data = picture(width, height, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    scan = data[last:-2]
    return data[:last] + scan * scans + b"\xff\xd9"


def key_cases(images: int, megabytes: int, megapixels: int) -> Iterator[Case]:
    """Yields one or two cases of each kind, of a server with these limits."""
    good, side = picture(), int((megapixels * 1_000_000) ** 0.5) + 1
    for method in ("PUT", "DELETE", "TRACE", "PATCH", "OPTIONS", "HEAD", "GET", "PROPFIND"):
        request = f"{method} /invocations HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        yield Case(f"{method}", [request], (405,), "" if method == "HEAD" else f"{method} is not allowed here")
    yield Case("POST to /ping", [post(b"").replace(b"/invocations", b"/ping")], (405,), "Allowed: GET, HEAD")
    for kind in ("text/csv", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "", "a" * 5000):
        yield Case(f"content type {kind[:20]}", [post(asking(good), kind)], (415,), "Send application/json, in UTF-8")
    yield Case(
        "gzip", [post(gzip.compress(asking(good)), "application/json", "Content-Encoding: gzip")], (415,), "gzip"
    )
    for name, body in {
        "no JSON": b"{",
        "empty": b"",
        "deep lists": b"[" * 900_000,
        "deep objects": b'{"a":' * images + b"1" + b"}" * images,
        "many lists": b"[" + b"[]," * 300_000 + b"[]]",
        "a long number": b'{"dataframe_records": ' + b"9" * 100_000 + b"}",
        "not UTF-8": b"\xff\xfe{}",
        "wide characters": b'{"dataframe_records": [{"image": "' + "\U0001f600".encode() * 100_000 + b'"}]}',
        "lone surrogate": b'{"dataframe_records": [{"image": "\\ud800"}]}',
        "NaN": b'{"dataframe_records": [{"image": NaN}]}',
        "a number": b'{"dataframe_records": [{"image": 7}]}',
        "null": b'{"dataframe_records": [{"image": null}]}',
        "a list": b'{"dataframe_records": [{"image": ["aa=="]}]}',
        "no records": b'{"dataframe_records": []}',
        "another column": b'{"dataframe_records": [{"path": "/etc/passwd"}]}',
        "two columns": b'{"dataframe_records": [{"image": "aa==", "domain": "x"}]}',
        "parameters": b'{"dataframe_records": [{"image": "aa=="}], "params": {"domain": "../.."}}',
        "another format": b'{"dataframe_split": {"columns": ["image"], "data": [["aa=="]]}}',
        "constructor": b'{"__class__": "os.system", "args": ["id"]}',
        "absolute path": b'{"dataframe_records": [{"image": "/etc/passwd"}]}',
        "path that is base64": b'{"dataframe_records": [{"image": "/etc/passwd4"}]}',
        "relative path": b'{"dataframe_records": [{"image": "../../../../etc/passwd"}]}',
        "file address": b'{"dataframe_records": [{"image": "file:///etc/passwd"}]}',
        "web address": b'{"dataframe_records": [{"image": "http://127.0.0.1:1/"}]}',
        "base64 junk": b'{"dataframe_records": [{"image": "!!!!"}]}',
        "base64 with a line end": b'{"dataframe_records": [{"image": "aGVs\\nbG8="}]}',
        "base64 without padding": b'{"dataframe_records": [{"image": "aGVsbG8"}]}',
        "no image": asking(b"no image"),
        "empty image": asking(b""),
        "cut image": asking(good[:60]),
        "second image broken": asking(good, b"no image"),
        "VRT that names a file": asking(b'<VRTDataset><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>'),
        "SVG that names a file": asking(b'<svg><image href="file:///etc/passwd"/></svg>'),
        "PostScript": asking(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n"),
        "pickle": asking(b"\x80\x04\x95cos\nsystem\n(S'id'\ntR."),
        "ZIP": asking(b"PK\x03\x04" + bytes(60)),
        "NIfTI without voxels": asking(nifti_of(8, 8, 1)),
        "DICOM without pixels": asking(dicom_of(64, 64)),
        "TIFF with pages in a circle": asking(tiff_of(8, 8, 3, endless=True)),
    }.items():  # fmt: skip
        yield Case(name, [post(body)], (400, 413))
    for name, data in {
        "PNG bomb": png_of(side, side),
        "PNG that declares too much": png_of(30_000, 30_000, 3),
        "PNG over Pillow's own limit": png_of(65_000, 65_000, 3),
        "BMP": bmp_of(30_000, 30_000),
        "TIFF": tiff_of(60_000, 60_000),
        "DICOM": dicom_of(60_000, 60_000),
        "base64 of base64 of a PNG bomb": base64.b64encode(png_of(side, side)),
    }.items():
        yield Case(f"bomb: {name}", [post(asking(data))], (413,), "pixels together")
    for name, data in {
        "TIFF of many pages": tiff_of(900, 900, 800),
        "NIfTI": nifti_of(1000, 1000, 1000),
        "DICOM of many frames": dicom_of(900, 900, 10_000),
        "JPEG of 900 passes": jpeg_of_scans(side // 5, side // 5, 900),
    }.items():
        yield Case(f"bomb: {name}", [post(asking(data))], (400, 413), "image 0: ")
    half = png_of(side, side * 2 // 3)
    yield Case("bomb: two images, together too large", [post(asking(half, half))], (413,), "image 1: the images of")
    yield Case(
        "too many images", [post(asking(*[png_of(1, 1)] * (images + 1)))], (413,), f"Allowed: {images} a request"
    )
    size = megabytes * 1_000_000
    yield Case("too large", [post(b"0" * (size + 1))], (413,), f"larger than {size} bytes")
    yield Case("endless announced", [post(b"", length=10**15)], (413,), "larger than")
    pieces = [b"%x\r\n" % 100_000 + b"0" * 100_000 + b"\r\n" for _ in range(size // 100_000 + 2)]
    chunked = "Transfer-Encoding: chunked"
    yield Case("chunked, too large", [post(b"", "application/json", chunked), *pieces, b"0\r\n\r\n"], (413,))
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in asking(b"no image")) + b"0\r\n\r\n"
    yield Case("chunks of one byte", [post(tiny, "application/json", chunked)], (400,), "image 0: 8 bytes")
    yield Case("a chunk that is none", [post(b"xyz\r\n", "application/json", chunked)], (400, 0))
    yield Case("chunk of negative length", [post(b"-1\r\n\r\n", "application/json", chunked)], (400, 0))
    yield Case("length that is no number", [post(b"{}").replace(b"Length: 2", b"Length: two")], (400,))
    yield Case("two lengths", [post(b"{}", "application/json", "Content-Length: 5")], (400,))
    yield Case("body cut off", [post(b"{", length=900)], (408,), "did not arrive within")
    yield Case("HTTP/2", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], (400, 404))
    yield Case("no HTTP", [b"\x00\xff\x00\xffhello\r\n\r\n"], (400,), "no request of HTTP/1.1")
    yield Case("HTTP/1.0", [post(b"{").replace(b"HTTP/1.1", b"HTTP/1.0")], (400,), "not JSON")
    yield Case("HTTP/9.9", [post(b"{").replace(b"HTTP/1.1", b"HTTP/9.9")], (400, 505))
    yield Case("huge header", [post(b"{", "application/json", f"X: {'a' * 200_000}")], (400, 431))
    yield Case("many headers", [post(b"{", "application/json", *[f"X{n}: a" for n in range(20_000)])], (400, 431))
    yield Case("header with a line end", [post(b"{", "application/json", "X: a\r\n b\n\rc")], (400,))
    yield Case("long path", [post(b"{").replace(b"/invocations", b"/" + b"a" * 60_000)], (400, 404, 414))
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/invocations/", "/openapi.json"):
        yield Case(f"path {path}", [post(b"{").replace(b"/invocations", path.encode())], (404,), "no such page")
    yield Case("path that is no text", [post(b"{").replace(b"/invocations", b"/%ff%00\xf0")], (400, 404))
    yield Case("proxy request", [post(b"{").replace(b"/invocations", b"http://127.0.0.1:1/")], (400, 404))
    yield Case("CONNECT", [b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n"], (400, 404))
    yield Case("WebSocket", [post(b"{", "application/json", "Upgrade: websocket")], (400,))
    yield Case("expects to go on", [post(b"{", "application/json", "Expect: 100-continue")], (400,), "not JSON")
    kept = post(b"{").replace(b"Connection: close\r\n", b"")
    yield Case("three at once", [kept * 2 + post(b"{")], (400,), "not JSON")
    yield Case("a good one, then junk", [kept + b"\x00\x00\r\n\r\n"], (400,))


def soak_cases(images: int, megabytes: int, megapixels: int) -> Iterator[Case]:
    """Yields the key cases, and more of each kind: mutated, larger, slower."""
    yield from key_cases(images, megabytes, megapixels)
    side = int((megapixels * 1_000_000) ** 0.5) - 1
    size = megabytes * 700_000
    rng = np.random.default_rng(0)
    yield Case("body in drops", [post(b"", length=900), *[b"{"] * 60], (408,), "did not arrive", 0.1)
    yield Case("head in drops", [b"POST /invocations HTTP/1.1\r\n", *[b"a"] * 60], (0, 408), pause=0.1)
    yield Case("no head", [b""], (0,))
    yield Case("unfinished TLS hello", [bytes.fromhex("16030100f4010000f00303")], (400, 0))
    yield Case("as many pixels as allowed", [post(asking(png_of(side, side)))], (200,))
    yield Case("as many images as allowed", [post(asking(*[png_of(1, 1)] * images))], (200,))
    for mark in (b"[", b"{", b",", b'"', b"\\", b" ", b"[]", b"{}", b"0,", b'"",', b"\\u0000", b"1e9"):
        yield Case(f"{mark.decode()} many times", [post(mark * (size // len(mark)))], (400, 413))
        inside = b'{"dataframe_records": [{"image": "' + mark.replace(b'"', b"a") * (size // len(mark)) + b'"}]}'
        yield Case(f"{mark.decode()} many times in a text", [post(inside)], (400, 413))
    for spacing in ("1e-6\\1e-6", "1e-3\\1e-3", "1e9\\1e9", "0\\0", "nan\\nan", "1e-300\\1e300"):
        yield Case(
            f"DICOM spacing {spacing}", [post(asking(dicom_of(8, 8, spacing=spacing, pixels=bytes(64))))], (200, 400)
        )
    for passes in (17, 100, 300):
        yield Case(f"JPEG of {passes} passes", [post(asking(jpeg_of_scans(900, 900, passes)))], (200, 400, 413))
    segments = b"\xff\xd8" + b"\xff\xe1\x00\x02" * (size // 5)
    yield Case("JPEG of empty segments", [post(asking(segments))], (400, 503))
    elements = dicom_of(8, 8)[:-14] + struct.pack("<HH2sH", 0x29, 0x10, b"SH", 0) * (size // 10)
    yield Case("DICOM of empty elements", [post(asking(elements))], (400, 413, 503))
    seeds = [picture(), picture(form="JPEG"), picture(form="TIFF"), picture(form="BMP"), picture(form="WEBP")]
    seeds += [dicom_of(8, 8, pixels=bytes(64)), nifti_of(8, 8, 1) + bytes(64), tiff_of(8, 8)]
    for number in range(200):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(min(len(data), 400)))] = int(rng.integers(256))
        yield Case(f"mutated image {number}", [post(asking(bytes(data)))], (200, 400, 413))
    whole = post(asking(picture()))
    for number in range(200):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        yield Case(f"mutated request {number}", [bytes(data)], (200, *REFUSED, 0))


def sent(port: int, case: Case, patience: float = 90.0) -> tuple[int, bytes]:
    """Returns status and whole answer to one case; status 0: the server closed the connection without one."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as line:
        with suppress(ConnectionError):
            for part in case.parts:
                line.sendall(part)
                time.sleep(case.pause)
        with suppress(ConnectionError):
            while part := line.recv(65_536):
                answer += part
    answer = re.sub(rb"^HTTP/1.1 100.*\r\n\r\n", b"", answer)
    found = answer.split(b"\r\n\r\n", 1)[0].split()  # HTTP/1.1 200 OK
    return int(found[1]) if len(found) > 1 else 0, answer


def complaints(case: Case, status: int, answer: bytes, told: tuple[str, ...]) -> list[str]:
    """Returns what is wrong with an answer.

    Args:
        case: what was sent.
        status: as `sent` returns it.
        answer: likewise.
        told: texts that no client may see, such as folders of the server.
    """
    body = answer.partition(b"\r\n\r\n")[2].decode("latin-1")
    wrong = [] if status in case.allowed else [f"status {status}, not {case.allowed}: {body[:300]}"]
    wrong += [f"says {text!r}" for text in (*told, "Traceback", 'File "', "root:x:", "site-packages") if text in body]
    if case.message not in body:
        wrong.append(f"does not say {case.message!r}: {body[:300]}")
    if status >= 400 and "HEAD" not in case.name and not _is_refusal(answer):
        wrong.append(f"no plain refusal: {body[:300]}")
    if status == 405 and b"\r\nallow: " not in answer.lower():
        wrong.append("no Allow")
    if status == 503 and b"\r\nretry-after: " not in answer.lower():
        wrong.append("no Retry-After")
    return [f"{case.name}: {what}" for what in wrong]


def _is_refusal(answer: bytes) -> bool:
    try:
        first, _ = json.JSONDecoder().raw_decode(answer.partition(b"\r\n\r\n")[2].decode("ascii"))
    except ValueError:
        return False
    return isinstance(first, dict) and list(first) == ["error"]
