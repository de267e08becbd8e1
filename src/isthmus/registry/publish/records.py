"""What was published from which results: one small file a publication, so that nothing is ever found by search."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.core.files import read_json, sha256_bytes, write_json

FOLDER = Path(".isthmus") / "published"
_FILE = "sqlite:///"


@dataclass
class Publication:
    """How far a publication came. It is written after each step, so that a killed one goes on where it was.

    Attributes:
        scenario: its name.
        tracking_uri: the store it went to.
        key: of the lock entries (`Lineage.key`).
        experiment: MLflow's id of it.
        started: [ms] since 1970; every value bears it, so that logging again adds nothing.
        commit: last commit of the branch.
        snapshot: commit of the tree that ran.
        runs: part -> run id; `scenario` is the parent, `<method>/<seed>` its children.
        finished: parts that are wholly logged.
        model_id: MLflow's id of the model.
        version: number in the registry; with it the publication is complete.
    """

    scenario: str
    tracking_uri: str
    key: str
    experiment: str
    started: int
    commit: str
    snapshot: str
    runs: dict[str, str] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    model_id: str = ""
    version: str = ""

    def save(self, path: Path) -> None:
        """Writes the record atomically."""
        write_json(path, asdict(self))


def record_path(project: Path, key: str, tracking_uri: str) -> Path:
    """Returns where the record of these results in this store lies."""
    return project / FOLDER / f"{sha256_bytes(f'{key} {tracking_uri}'.encode())}.json"


def find_record(project: Path, key: str, tracking_uri: str, is_of: Callable[[Publication], bool]) -> Publication | None:
    """Returns the record of these results in a store, None where there is none.

    Its file is named for the store's address. A store that was moved, a file, is known by the runs that are in it.

    Args:
        project: its root.
        key: of the lock entries.
        tracking_uri: address of the store.
        is_of: says whether a store has what a record names.
    """
    own = record_path(project, key, tracking_uri)
    record = read_record(own)
    if record is not None and is_of(record):
        return record
    others = sorted(set((project / FOLDER).glob("*.json")) - {own}) if tracking_uri.startswith(_FILE) else []
    for record in map(read_record, others):
        if record and record.key == key and record.tracking_uri.startswith(_FILE) and record.runs and is_of(record):
            return record
    return None


def read_record(path: Path) -> Publication | None:
    """Returns the record, None where there is none.

    Raises:
        StoreError: the file is not a record of ours.
    """
    if not path.exists():
        return None
    try:
        return Publication(**read_json(path))
    except TypeError:
        raise StoreError(
            f"{path}: not a record of this version. Delete it; 'isthmus publish' writes it again"
        ) from None
