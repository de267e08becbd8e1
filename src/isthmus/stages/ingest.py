"""Find, decode, audit and split the raw images of a scenario.

manifest: `data/manifest.py: MANIFEST`, one row a distinct (domain, bytes, part), ordered by `image_id`.
locations: `LOCATIONS`, where each of them lies below the raw folder.
companions: `COMPANIONS`, the mask and the second image of each, where the task has them.
labels_target: `TARGET_LABELS`, labels of the target; empty with `target_labels: none`.
audit: counts by domain, split and source class, duplicates, bad files by reason, files beside images; no file names.
quarantine: `[{"path", "domain", "reason"}]`, files that are not used; of medical images `path` is the file's number,
by which `isthmus where` finds it.
"""

from pathlib import Path
from typing import ClassVar

from isthmus.core.config import Config
from isthmus.core.files import write_json
from isthmus.core.progress import log
from isthmus.data.ingest.tables import IngestConfig, ingest
from isthmus.data.manifest import COMPANIONS, LOCATIONS, MANIFEST, TARGET_LABELS, write_table
from isthmus.data.scenario import Scenario
from isthmus.stages._cli import stage


class Params(Config):
    """What `ingest` reads of `params.yaml`."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario
    ingest: IngestConfig = IngestConfig()
    seed: int


def run(
    params: Params,
    *,
    raw: Path,
    manifest: Path,
    locations: Path,
    companions: Path,
    labels_target: Path,
    audit: Path,
    quarantine: Path,
) -> None:
    """Writes the tables; broken files go to quarantine and the run goes on."""
    done = ingest(raw, params.scenario, params.ingest, params.seed)
    write_table(manifest, done.manifest, MANIFEST)
    write_table(locations, done.locations, LOCATIONS)
    write_table(companions, done.companions, COMPANIONS)
    write_table(labels_target, done.target_labels, TARGET_LABELS)
    write_json(quarantine, [bad._asdict() for bad in done.bad])
    write_json(audit, done.audit)
    counts = ", ".join(f"{domain} {count}" for domain, count in done.audit["images"].items())
    for assumed, domains in done.audit["assumed"].items():
        log(f"ingest: {assumed} ({', '.join(f'{domain} {files} files' for domain, files in domains.items())})")
    bad = f"{len(done.bad)} files in quarantine"
    if done.bad:
        bad += f" ({quarantine} names each with its reason)"
    log(f"ingest: {counts} images; {bad}; {done.audit['duplicates']} exact copies")
    beside = sum(sum(kinds.values()) for kinds in done.audit["beside"].values())
    for count, what in (
        (beside, "files beside the images, ignored (audit.json: beside)"),
        (done.audit["files_not_in_table"], "files that the table does not name, not used"),
        (done.audit["lines_of_other_domains"], "lines of the table are of other domains, not used"),
        (done.audit["groups_trained_and_tested"], "groups are trained on as source and tested on as target"),
    ):
        if count:
            log(f"ingest: {count} {what}")


if __name__ == "__main__":
    stage(run)
