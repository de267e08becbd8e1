"""What is known of a public pair."""

from dataclasses import dataclass, field
from typing import Any

RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublicPair:
    """One known pair.

    Attributes:
        name: of the scenario, its section in `params.yaml`.
        folder: its folder in a mirror.
        source, target: domains.
        origin: what it is and where it comes from, for people.
        licence: what is known of its licence, for people.
        checks: SHA-256 of the files that vouch for all others: the manifest, or the arrays themselves.
        section: the scenario's section, less what is said above.
        urls: domain -> public address of its files; a manifest's `source_file`, or else its `path`, continues it.
        recoded: domain -> how the origin's files become the known ones, a recipe of `data/catalog/conversion.py`.
        mirror_only: why the origin's files cannot be verified, where they cannot: the pair comes from a mirror alone.
        splits: group -> split, where the manifest's own separates near-duplicates.
        family: what pairs that are directions between the same domains share: raw folder, downloads, manifest.
    """

    name: str
    folder: str
    source: str
    target: str
    origin: str
    licence: str
    checks: dict[str, str]
    section: dict[str, Any]
    urls: dict[str, str]
    recoded: dict[str, str] = field(default_factory=dict)
    mirror_only: str = ""
    splits: dict[str, str] = field(default_factory=dict)
    family: str = ""

    @property
    def raw(self) -> str:
        """The name of its folder in `data/raw`."""
        return self.family or self.name

    def keeps(self, domain: str, label: str, split: str) -> bool:
        """Says whether an image is of the pair's classes; of task anomaly the target is learnt from good ones alone."""
        classes = self.section["classes"]
        if self.section.get("task") == "anomaly":
            return label == classes[0] or domain != self.target or split == "test"
        return not label or label in classes

    def scenario(self) -> dict[str, Any]:
        """Returns the section for `params.yaml`."""
        first: dict[str, Any] = {key: self.section[key] for key in ("kind", "task") if key in self.section}
        return {
            **first,
            "raw": f"data/raw/{self.raw}",
            "source": [self.source],
            "target": self.target,
            "target_labels": "table",
            **{key: value for key, value in self.section.items() if key not in first},
        }
