"""Writes TIFFs of any layout by hand: for what no library here writes (TIFF 6.0; Adobe, 1992, section 2)."""

import struct
import zlib
from typing import Any

import numpy as np

MASK, REDUCED = 4, 1  # NewSubfileType
_FORMATS = {"u": 1, "i": 2, "f": 3}


def tiff(*pages: tuple[np.ndarray, dict[int, Any]], order: str = "<", big: bool = False) -> bytes:
    """Returns a TIFF of pages `[H, W, C]`, each with tags of its own beside or instead of those that follow from it.

    The tags 259 (compression, 1 or 8) and 284 (1: chunky, 2: planes apart) decide how pixels are laid down.
    """
    place, count, entry = (16, "Q", "HHQ") if big else (8, "H", "HHI")
    pointer = "Q" if big else "I"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, place) if big else struct.pack(f"{order}HI", 42, place)
    out = bytearray((b"II" if order == "<" else b"MM") + head)
    for number, (pixels, changes) in enumerate(pages):
        height, width, samples = pixels.shape
        bits = pixels.dtype.itemsize * 8
        tags: dict[int, Any] = {
            256: width, 257: height, 258: (bits,) * samples, 259: 1, 262: 2 if samples == 3 else 1, 277: samples,
            278: height, 284: 1, 339: (_FORMATS[pixels.dtype.kind],) * samples,
        }  # fmt: skip
        tags |= changes
        planes = [pixels] if tags[284] == 1 else [pixels[..., k] for k in range(samples)]
        data = [np.ascontiguousarray(p, p.dtype.newbyteorder(order)).tobytes() for p in planes]
        data = [zlib.compress(d) for d in data] if tags[259] == 8 else data
        tags = {tag: value for tag, value in tags.items() if value is not None}
        entries, rest = [], b""
        lengths = [len(d) for d in data]
        tags |= {279: lengths, 273: [0] * len(data)}
        body = place + struct.calcsize(f"{order}{count}") + (len(tags) * (20 if big else 12)) + (8 if big else 4)
        long = sum(len(v) * 4 for v in tags.values() if isinstance(v, (tuple, list)) and len(v) * 4 > (8 if big else 4))
        starts = [body + long + sum(lengths[:k]) for k in range(len(data))]
        tags[273] = starts
        for tag in sorted(tags):
            values = tags[tag] if isinstance(tags[tag], (tuple, list)) else [tags[tag]]
            packed = struct.pack(f"{order}{len(values)}I", *values)
            room = 8 if big else 4
            if len(packed) > room:
                inline, rest = struct.pack(f"{order}{pointer}", body + len(rest)), rest + packed
            else:
                inline = packed.ljust(room, b"\0")
            entries.append(struct.pack(f"{order}{entry}", tag, 4, len(values)) + inline)
        after = body + len(rest) + sum(lengths)
        after += after % 2
        last = number == len(pages) - 1
        out += struct.pack(f"{order}{count}", len(tags)) + b"".join(entries)
        out += struct.pack(f"{order}{pointer}", 0 if last else after) + rest + b"".join(data)
        out = out.ljust(after, b"\0")
        place = after
    return bytes(out)
