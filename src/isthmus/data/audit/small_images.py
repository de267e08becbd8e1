"""The small pictures of `near_duplicates.py` while a scenario is ingested: on disk, so that memory stays flat."""

import tempfile
from collections.abc import Sequence
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]


class Pictures(Sequence[Picture]):
    """Pictures in the order they were added. The file has no name and is gone with the process, however it ends.

    To be used in a `with` block, which closes the file.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._places: list[tuple[int, tuple[int, ...]]] = []
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, picture: Picture) -> int:
        """Keeps a picture and returns its place."""
        data = np.ascontiguousarray(picture, np.float32).tobytes()
        self._file.seek(self._end)
        self._file.write(data)
        self._places.append((self._end, picture.shape))
        self._end += len(data)
        return len(self._places) - 1

    def chosen(self, places: Sequence[int]) -> "Pictures":
        """Returns a view of some of them in another order."""
        view = object.__new__(Pictures)
        view._file, view._end, view._places = self._file, self._end, [self._places[place] for place in places]
        return view

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Picture: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Picture]: ...
    def __getitem__(self, place: int | slice) -> Picture | Sequence[Picture]:
        if isinstance(place, slice):
            return [self[k] for k in range(*place.indices(len(self)))]
        start, shape = self._places[place]
        self._file.seek(start)
        return np.frombuffer(self._file.read(4 * int(np.prod(shape))), np.float32).reshape(shape)
