"""Checkpoints for resuming after a crash. They lie outside the stage's outputs, which DVC deletes before a run.

The folder's name is a hash of inputs, params and code: a checkpoint made by other code or data is never resumed.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from isthmus.core.progress import say


class Checkpoint:
    """One seed's state on disk. Loaded with `weights_only=True`: tensors and plain values, nothing executable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "state.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".state.{os.getpid()}.partial"
        torch.save(state, partial)
        partial.replace(self._state)

    def load(self) -> dict[str, Any] | None:
        """Returns the last whole state, None where there is none. A broken file is said and thrown away."""
        if not self._state.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            say(f"checkpoint {self._state} cannot be read ({type(error).__name__}): this seed starts again")
            self._state.unlink()
            return None
        return state
