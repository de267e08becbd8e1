"""Mutates real files of one family and reads them, until its time is up: run as a child, for it may crash or hang.

python -m tests.soak.fuzzing FAMILY SEED SECONDS FOLDER

Prints a line a case before it is read, so that the parent knows what killed it; the last line is JSON counts. A file
that is neither read nor refused with a reason is kept as FOLDER/finding-*, its traceback beside it.
"""

import io
import json
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isthmus.core.errors import DataError
from isthmus.data.audit.near_duplicates import small_picture
from isthmus.data.readers import reader_for
from tests.tiff_files import tiff

ADDRESS_SPACE = 6 * 2**30  # [byte]: over it an allocation fails; a reader must say so or have refused before
SECRET = (37, 41)  # [pixel] of a raster outside the folder, a size that no seed has
_HUGE = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff")
Seeds = list[tuple[str, bytes]]  # suffix, content


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Returns the bytes after one to four mutations, drawn from six kinds."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            break
        kind, size = int(rng.integers(6)), len(out)
        head = min(size, 2048) if rng.random() < 0.7 else size  # headers are where sizes and offsets are
        place = int(rng.integers(head))
        length = int(rng.integers(1, max(2, size // 4)))
        if kind == 0:
            for _ in range(int(rng.integers(1, 33))):
                out[int(rng.integers(head))] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del out[int(rng.integers(size)) :]
        elif kind == 2:
            other = int(rng.integers(size))
            a, b = bytes(out[place : place + length]), bytes(out[other : other + length])
            out[place : place + len(b)], out[other : other + len(a)] = b, a
        elif kind == 3:
            huge = _HUGE[int(rng.integers(len(_HUGE)))][: int(rng.choice([2, 4]))]
            out[place : place + len(huge)] = huge
        elif kind == 4:
            out[place : place + length] = bytes(length)
        else:
            out[place:place] = rng.bytes(min(length, 256))
    return bytes(out)


def pictures(_: Path) -> Seeds:
    """PNG, JPEG, TIFF, BMP and WebP of several modes."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (40, 50, 3), np.uint8)
    images = {
        "rgb": Image.fromarray(rgb), "grey": Image.fromarray(rgb[..., 0]), "palette": Image.fromarray(rgb).quantize(16),
        "deep": Image.fromarray(rgb[..., 0].astype(np.uint16) * 200), "alpha": Image.fromarray(rgb).convert("RGBA"),
        "ink": Image.fromarray(rgb).convert("CMYK"), "float": Image.fromarray(rgb[..., 0].astype(np.float32)),
    }  # fmt: skip
    kinds: dict[str, tuple[list[str], list[dict[str, Any]]]] = {
        ".png": (["rgb", "grey", "palette", "deep", "alpha"], [{}]),
        ".jpg": (["rgb", "grey", "ink"], [{}, {"progressive": True}]),
        ".tif": (list(images), [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}]),
        ".bmp": (["rgb", "grey", "palette"], [{}]),
        ".webp": (["rgb", "alpha"], [{}, {"lossless": True}]),
    }
    formats = {".jpg": "JPEG", ".tif": "TIFF"}
    seeds = []
    for suffix, (names, options) in kinds.items():
        for name in names:
            for option in options:
                stream = io.BytesIO()
                images[name].save(stream, formats.get(suffix, suffix[1:].upper()), **option)
                seeds.append((suffix, stream.getvalue()))
    stream = io.BytesIO()
    images["rgb"].save(stream, "TIFF", save_all=True, append_images=[images["grey"], images["palette"]])
    return [*seeds, (".tif", stream.getvalue())]


def dicom(_: Path) -> Seeds:
    """Files bundled with pydicom, of at most 100 kB: many scanners and transfer syntaxes."""
    import pydicom

    root = Path(pydicom.__file__).parent / "data" / "test_files"
    return [(".dcm", p.read_bytes()) for p in sorted(root.rglob("*.dcm")) if p.stat().st_size < 100_000]


def nifti(_: Path) -> Seeds:
    """Files bundled with nibabel, packed and unpacked."""
    import gzip

    import nibabel

    root = Path(nibabel.__file__).parent / "tests" / "data"
    packed = [(".nii.gz", p.read_bytes()) for p in sorted(root.glob("*.nii.gz"))]
    plain = [(".nii", p.read_bytes()) for p in sorted(root.glob("*.nii"))]
    return packed + plain + [(".nii", gzip.decompress(data)) for _, data in packed]


def geotiff(outside: Path) -> Seeds:
    """Rasters of many dtypes and layouts, and VRTs that name a raster outside the folder."""
    import rasterio
    from rasterio.io import MemoryFile

    layouts: list[dict[str, Any]] = [
        {},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
        {"compress": "deflate", "interleave": "pixel"},
        {"compress": "lzw", "predictor": 2, "BIGTIFF": "YES"},
    ]
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)}
    seeds: Seeds = []
    for dtype in ("uint8", "int16", "uint16", "uint32"):
        for layout in layouts:
            with MemoryFile() as memory:
                shape = {"count": 5, "height": 40, "width": 50, "dtype": dtype, "nodata": 0}
                with memory.open(driver="GTiff", **place, **shape, **layout) as scene:
                    scene.write(np.random.default_rng(0).integers(0, 100, (5, 40, 50)).astype(dtype))
                seeds.append((".tif", memory.read()))
    for count, dtype in ((1, "uint16"), (3, "uint8")):
        with MemoryFile(ext=".jp2") as memory:
            with memory.open(driver="JP2OpenJPEG", count=count, height=40, width=50, dtype=dtype, **place) as scene:
                scene.write(np.random.default_rng(0).integers(0, 100, (count, 40, 50)).astype(dtype))
            seeds.append((".jp2", memory.read()))
    rng = np.random.default_rng(0)
    for shape, tags in (((20, 30, 3), {284: 2}), ((20, 30, 1), {259: 8}), ((20, 30, 4), {262: 2, 338: 2, 274: 6})):
        page = rng.normal(size=shape)  # pictures that Pillow cannot read
        seeds.append((".tif", tiff((page, tags), (page, {**tags, 254: 1}), (page, tags))))
    with rasterio.open(
        outside, "w", driver="GTiff", count=1, height=SECRET[0], width=SECRET[1], dtype="uint8"
    ) as scene:
        scene.write(np.full((1, *SECRET), 201, np.uint8))
    for name in (str(outside), f"../{outside.name}"):
        vrt = (
            f'<VRTDataset rasterXSize="{SECRET[1]}" rasterYSize="{SECRET[0]}"><VRTRasterBand dataType="Byte" band="1">'
            f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>1</SourceBand>'
            "</SimpleSource></VRTRasterBand></VRTDataset>"
        )
        seeds += [(suffix, vrt.encode()) for suffix in (".tif", ".geotiff")]
    return seeds


FAMILIES: dict[str, Callable[[Path], Seeds]] = {
    "pictures": pictures, "dicom": dicom, "nifti": nifti, "geotiff": geotiff,
}  # fmt: skip


def read(path: Path) -> str:
    """Reads a file as `ingest` does; returns `read` or `refused`."""
    try:
        reader = reader_for(path)
        parts = reader.parts(path)
        for part in parts[:3] + parts[-1:]:
            image = reader.read(path, part)
            assert image.pixels.ndim == 3, f"pixels have shape {image.pixels.shape}"
            assert image.pixels.shape[:2] != SECRET, "pixels of a file outside the folder"
            assert image.valid is None or image.valid.shape == image.pixels.shape[:2], "mask of another shape"
            json.dumps(image.facts)
            small_picture(image)
            reader.slice_of(path, part)
    except DataError as error:
        assert str(error), "refused without a reason"
        assert path.stem not in str(error), "the reason names the file"
        return "refused"
    return "read"


def watched(folder: Path) -> Callable[[str, tuple[Any, ...]], None]:
    """Returns an audit hook that refuses to open files that are not the folder's."""
    allowed = (
        str(folder),
        sys.prefix,
        sys.base_prefix,
        "/proc",
        "/sys",
        "/usr",
        "/lib",
        "/etc",
        str(Path.cwd()),
        "/dev",
    )

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], str) and given[0].startswith("/"):
            assert given[0].startswith(allowed) or "site" in given[0], f"opened {given[0]}, outside the folder"
        assert event not in ("subprocess.Popen", "os.system", "socket.connect"), f"{event} while reading a file"

    return hook


def main(family: str, seed: int, seconds: float, folder: Path) -> None:
    """Mutates and reads until the time is up."""
    warnings.simplefilter("ignore")
    box = folder / "box"
    box.mkdir(parents=True)
    seeds = FAMILIES[family](folder / "secret.tif")
    for number, (suffix, data) in enumerate(seeds):  # imports what it needs before the watch begins
        (box / f"qzjseed{number}{suffix}").write_bytes(data)
        read(box / f"qzjseed{number}{suffix}")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    sys.addaudithook(watched(folder))
    counts, end, case = {"read": 0, "refused": 0, "findings": 0}, time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rng = np.random.default_rng([seed, case])
        suffix, data = seeds[int(rng.integers(len(seeds)))]
        path = box / f"qzjcase{suffix}"
        path.write_bytes(mutated(data, rng))
        print(case, flush=True)
        try:
            counts[read(path)] += 1
        except BaseException:
            counts["findings"] += 1
            (folder / f"finding-{case}{suffix}").write_bytes(path.read_bytes())
            (folder / f"finding-{case}.txt").write_text(traceback.format_exc())
        case += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**counts, "cases": case, "peak_mb": round(peak)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4]))
