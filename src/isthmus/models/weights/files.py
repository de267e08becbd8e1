"""Reads a file of weights as its author saved it; no code that the file names is ever run.

Pickled files go through torch's `weights_only` reader. Of the objects that people save beside their tensors it may make
`argparse.Namespace` and NumPy's scalars and arrays; an object of any other package becomes an empty mapping
(`_Inert`), so that settings and callbacks do not keep a file from loading. A name of the standard library that is no
plain data has no place among weights: such a file is refused as a whole.
"""

import argparse
import contextlib
import io
import json
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.core.errors import WeightsError

_ALLOWED = "Allowed: .safetensors, Google's .npz, or what torch.load reads with weights_only=True"
_FOREIGN = {  # first bytes, or suffix where these do not tell -> what it is
    b"\x89HDF": "HDF5, as Keras writes it",
    b"GGUF": "GGUF",
    b"\x08": "ONNX or another protocol buffer",
    b"version https://": "a pointer of Git LFS ('git lfs pull' brings the file)",
    b"<": "a web page",
    ".msgpack": "Flax's message pack",
}
_PLAIN = {  # names of the standard library that hold values and do nothing
    "argparse": "Namespace",
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple",
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "_reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "enum": "Enum IntEnum",
    "functools": "partial",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "types": "SimpleNamespace",
    "typing": "Any Dict List Optional Tuple Union",
}


class GoogleArrays(dict[str, Tensor]):
    """The arrays of a JAX/Flax `.npz` by name; timm reads these from the file itself, at `path`."""

    def __init__(self, arrays: dict[str, Tensor], path: Path) -> None:
        super().__init__(arrays)
        self.path = path


class _Inert:
    """Stands for an object of a package that is not loaded: torch's reader fills it and nothing runs."""

    def __new__(cls, *_: object) -> Any:
        """Returns a mapping, the one thing that takes items and attributes alike."""
        return OrderedDict()


def read_file(path: Path) -> Any:
    """Returns what a file holds: dicts and lists of tensors and plain values, wrapped as its author wrapped them.

    A module that was pickled whole and a TorchScript archive come back as the flat dict of their tensors, Google's
    arrays as `GoogleArrays`.

    Raises:
        WeightsError: it holds no tensors that can be read without running code; the message says why.
    """
    if path.suffix == ".json":
        return _shards(path)
    with path.open("rb") as stream:
        start = stream.read(16)
    safe = start[8:9] == b"{"  # its first eight bytes are a length, and may be any
    for sign, what in _FOREIGN.items():
        if not safe and (sign == path.suffix or (isinstance(sign, bytes) and start.startswith(sign))):
            raise WeightsError(f"models: backbone.weights: '{path}' is {what}, not tensors for torch. {_ALLOWED}")
    if safe or path.suffix == ".safetensors":
        return read_safetensors(path)
    with _explained(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about pickle protocols and storages of its older versions
        if any(name.endswith(".npy") for name in _members(path)):
            with np.load(path, allow_pickle=False) as arrays:
                read = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            return GoogleArrays(read, path) if any("/" in name for name in read) else read
        return _without_objects(_unpickled(path))


def _shards(index: Path) -> dict[str, Tensor]:
    """Returns the tensors of all files that an index of transformers or diffusers names; they lie beside it."""
    with _explained(index):
        names = sorted({Path(name).name for name in json.loads(index.read_bytes())["weight_map"].values()})
        if missing := [name for name in names if not index.with_name(name).is_file()]:
            raise WeightsError(
                f"models: backbone.weights: '{index}' names {', '.join(missing)}, which do not lie beside it. Bring"
                " them, or name a file that holds all"
            )
        return {name: tensor for part in names for name, tensor in read_file(index.with_name(part)).items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file.

    Raises:
        WeightsError: it is none.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a safetensors file ({error}). Delete it, or name another") from error
    return tensors


def _members(path: Path) -> list[str]:
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns whatever a broken or foreign file makes of a reader into one message."""
    try:
        yield
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(
            f"models: backbone.weights: '{path}' is not a file of plain tensors, or is cut off"
            f" ({type(error).__name__}). {_ALLOWED}"
        ) from error


def _unpickled(path: Path) -> Any:
    script = any(name.endswith("/constants.pkl") for name in _members(path))
    source: Any = _tensors_of_script(path) if script else str(path)
    # Files from before torch 1.6 are no archives, and what they name cannot be listed before they are read.
    named = torch.serialization.get_unsafe_globals_in_checkpoint(source) if zipfile.is_zipfile(path) else []
    if refused := sorted(name for name in named if _is_refused(name)):
        raise WeightsError(
            f"models: backbone.weights: '{path}' is not a file of plain tensors: it names {', '.join(refused)}, which"
            f" no file of weights needs. Nothing of it was run. {_ALLOWED}"
        )
    own = _numpy_types()
    inert = [(_Inert, name) for name in named if name not in own and name != "argparse.Namespace"]
    if script:
        source.seek(0)
    with torch.serialization.safe_globals(
        [argparse.Namespace, *((value, name) for name, value in own.items()), *inert]
    ):
        return torch.load(source, map_location="cpu", weights_only=True)


def _is_refused(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    module = IMPORT_MAPPING.get(module, module)  # torch saves under Python 2's names: subprocess is 'commands' there
    return module.partition(".")[0] in sys.stdlib_module_names and attribute not in _PLAIN.get(module, "").split()


def _numpy_types() -> dict[str, Any]:
    """Returns what NumPy's scalars and arrays are pickled by, under the names of NumPy 1 and 2."""
    functions = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
    found: dict[str, Any] = {"numpy.ndarray": np.ndarray, "numpy.dtype": np.dtype}
    for name, function in functions.items():
        found |= {f"numpy.{core}.multiarray.{name}": function for core in ("core", "_core")}
    return found | {f"numpy.dtypes.{name}": getattr(np.dtypes, name) for name in np.dtypes.__all__}


def _tensors_of_script(path: Path) -> io.BytesIO:
    """Returns a TorchScript archive without its code and constants: what is left is a pickle of its attributes."""
    kept = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(kept, "w") as copy:
        for name in archive.namelist():
            inside = name.partition("/")[2]
            if inside.startswith("data") or inside in ("version", "byteorder"):
                copy.writestr(name, archive.read(name))
    kept.seek(0)
    return kept


def _without_objects(value: Any) -> Any:
    """Returns the value with every object in it replaced by the flat dict of the tensors that it holds."""
    if isinstance(value, OrderedDict) and not value and set(vars(value)) - {"_metadata"}:
        return dict(_named_tensors(value))
    if isinstance(value, dict):
        return {name: _without_objects(inner) for name, inner in value.items()}
    return value


def _named_tensors(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of an object by their dotted names; a module keeps its parts in three dicts of its own."""
    state = vars(value)
    if "_modules" in state:
        state = {name: inner for part in ("_parameters", "_buffers", "_modules") for name, inner in state[part].items()}
    for name, inner in state.items():
        if isinstance(inner, Tensor):
            yield name, inner
        elif isinstance(inner, OrderedDict):
            yield from ((f"{name}.{rest}", tensor) for rest, tensor in _named_tensors(inner))
