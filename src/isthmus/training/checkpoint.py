"""Checkpoints for resuming after a crash. They lie outside the stage's outputs, which DVC deletes before a run.

The folder's name is a hash of inputs, params and code: a checkpoint made by other code or data is never resumed.
"""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from isthmus.core.files import atomic_file, hash_files, sha256_bytes
from isthmus.core.progress import log


def checkpoint_key(facts: dict[str, Any], inputs: Sequence[Path], code: str) -> str:
    """Returns the name of a run's folder: a hash of facts (JSON types), of files and folders, and of the code.

    Args:
        facts: what was asked for.
        inputs: files and folders that the run reads.
        code: fingerprint of the stage's code (`core/code/fingerprint.py`).
    """
    # Shards follow from manifest, facts, params and code, which callers name; hashing gigabytes of them adds nothing.
    return sha256_bytes(f"{hash_files(inputs)}{code}{json.dumps(facts, sort_keys=True)}".encode())[:32]


class Checkpoint:
    """One seed's state on disk. Loaded with `weights_only=True`: tensors and plain values, nothing executable."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state = folder / "state.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Writes the state atomically."""
        with atomic_file(self._state) as partial:
            torch.save(state, partial)

    def load(self) -> dict[str, Any] | None:
        """Returns the last whole state, None where there is none. A broken file is said and thrown away."""
        if not self._state.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(self._state, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            log(f"checkpoint {self._state} cannot be read ({type(error).__name__}): this seed starts again")
            self._state.unlink()
            return None
        return state
