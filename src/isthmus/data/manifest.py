"""The tables of a scenario's images: facts, places and target labels, each in a file of its own.

`manifest.parquet` has one row an image in the order of `image_id`. `image_id` is a keyed hash of the image's
bytes: neither it nor the order says anything of folders, so nothing of the target's class layout can reach
training. `locations.parquet`, `companions.parquet` (read by `prepare` alone) and `labels_target.parquet` (read by
`evaluate` alone) hold what the manifest must not.
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.core.errors import DataError
from isthmus.core.files import atomic_file

MANIFEST = pa.schema(
    [
        ("image_id", pa.string()),  # 32 hex digits: keyed hash of domain, bytes and part
        ("sha256", pa.string()),  # of the file's bytes
        ("part", pa.string()),  # page, frame or window inside the file; "" when the file is one image
        ("domain", pa.string()),
        ("split", pa.string()),  # source: train val cal test; target: train test
        ("group", pa.string()),  # keyed hash of what must not cross splits
        ("label", pa.int32()),  # index into classes; null for every target image
        ("height", pa.int32()),  # [pixel], as decoded
        ("width", pa.int32()),
        ("channels", pa.int32()),
        ("dtype", pa.string()),
        ("file_bytes", pa.int64()),
        ("copies", pa.int32()),  # files with these very bytes in this domain
    ]
)
LOCATIONS = pa.schema([("image_id", pa.string()), ("path", pa.string()), ("part", pa.string())])
TARGET_LABELS = pa.schema([("image_id", pa.string()), ("label", pa.int32())])
COMPANIONS = pa.schema(  # files that belong to an image; "" where there is none
    [
        ("image_id", pa.string()),
        ("mask", pa.string()),  # or the file with its boxes; below the raw folder
        ("mask_sha256", pa.string()),  # of boxes: of their text
        ("boxes", pa.string()),  # `data/boxes.py: as_text`, in pixels of the image
        ("second", pa.string()),  # the later of two images of one place
        ("second_sha256", pa.string()),
    ]
)
BOXES = pa.schema([("image_id", pa.string()), ("boxes", pa.string())])  # in pixels of the prepared image
INDEX = pa.schema([("image_id", pa.string()), ("domain", pa.string()), ("shard", pa.string()), ("row", pa.int32())])


def write_table(path: Path, rows: pd.DataFrame, schema: pa.Schema) -> None:
    """Writes a table with exactly the schema's columns, atomically; equal rows are equal bytes."""
    table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False).replace_schema_metadata(None)
    with atomic_file(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_table(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Reads a table; its columns must be the schema's. Integer columns that may be null become `Int32`.

    Raises:
        DataError: the file is missing, unreadable, or has other columns.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: cannot be read ({error}). Run 'dvc repro' to write it again") from None
    if table.schema.names != schema.names:
        raise DataError(
            f"{path}: columns are {', '.join(table.schema.names)}; expected {', '.join(schema.names)}."
            " It was written by another version: run 'dvc repro' again"
        )
    frame: pd.DataFrame = table.to_pandas(types_mapper={pa.int32(): pd.Int32Dtype()}.get)
    return frame
