"""An engine without a cluster: units are pickled as for any other, and computed in the process of the test."""

import pytest

from isthmus.core import engine


class InThisProcess:
    """A cluster whose units are computed when they are asked for, here."""

    workers = 2

    def __init__(self) -> None:
        self.under_way = self.most = self.sent = self.dropped = 0

    def submit(self, unit: bytes) -> bytes:
        self.sent += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return unit

    def result(self, handle: bytes) -> object:
        self.under_way -= 1
        return engine.run_unit(handle)

    def cancel(self, handles: list[bytes]) -> None:
        self.dropped = len(handles)

    def close(self) -> None:
        pass

    @classmethod
    def used(cls, monkeypatch: pytest.MonkeyPatch) -> "InThisProcess":
        """Returns the cluster that `core/engine.py` uses from now on."""
        there = cls()
        monkeypatch.setenv("ISTHMUS_ENGINE", "dask")
        monkeypatch.setattr(engine, "open_cluster", lambda config: there)
        return there
