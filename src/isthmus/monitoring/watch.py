"""Holds incoming images, or the kept statistics of served ones, against what a scenario's champion was adapted to."""

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from isthmus.core.config import load_params
from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import write_json
from isthmus.data.scenario import ScenarioParams
from isthmus.monitoring.drift import Drift, WatchConfig, WatchParams, judge_drift
from isthmus.registry.model.model_files import FOLDER as MODEL_FOLDER
from isthmus.registry.model.model_files import TYPICALITY, read_spec
from isthmus.registry.publish.model_reference import Address
from isthmus.registry.publish.publish import CHAMPION, model_name
from isthmus.registry.store.store_file import NoStoreError
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import Store
from isthmus.serving.batch_statistics import BINS, BatchStatistics, read_kept, summarise
from isthmus.serving.predict import answers, list_inputs
from isthmus.serving.serve import kept_path

FOLDER = Path(".isthmus") / "watch"
EXIT = {"no drift": 0, "drift": 3, "too few images": 4}
_SHOWN = 10  # bad files in the table; drift.json names all


@dataclass(frozen=True)
class Seen:
    """What the champion answered about the images.

    Attributes:
        batches: in whose statistics the images are counted.
        files: that could be used; empty where statistics were kept and no images.
        bad: file, as it may be named -> why it could not be used.
        since: where kept statistics were read from, empty for a folder.
    """

    batches: list[BatchStatistics]
    files: list[Path]
    bad: dict[str, str]
    since: str


@dataclass(frozen=True)
class Watched:
    """One batch, judged.

    Attributes:
        scenario: its name.
        champion: the version that answered.
        domain: that it was adapted to.
        place: the folder, or the file of kept statistics.
        seen: what was answered.
        drift: what the test found.
        config: thresholds.
        folder: where `drift.json` lies.
    """

    scenario: str
    champion: Address
    domain: str
    place: Path
    seen: Seen
    drift: Drift
    config: WatchConfig
    folder: Path

    @property
    def exit_status(self) -> int:
        """0 no drift, 3 drift, 4 too few images to tell."""
        return EXIT[self.drift.verdict]

    def as_json(self) -> dict[str, Any]:
        """Returns every number, threshold and reason as JSON types."""
        batches, images = self.seen.batches, max(self.drift.images, 1)
        classes = sum((Counter(batch.classes) for batch in batches), Counter[str]())
        means = {name: _mean(batches, name) for name in _MEANS}
        bad = [{"path": path, "reason": reason} for path, reason in sorted(self.seen.bad.items())]
        return asdict(self.drift) | {
            "scenario": self.scenario, "model": self.champion.model, "version": self.champion.version,
            "model_id": self.champion.model_id, "domain": self.domain, "place": str(self.place),
            "since": self.seen.since, "thresholds": self.config.model_dump(mode="json"),
            "domain_score": _summed(batches), "classes": {name: n / images for name, n in sorted(classes.items())},
            **means, "bad": bad,
        }  # fmt: skip

    def table(self) -> str:
        """Returns the finding as text for a person."""
        found, config = self.drift, self.config
        share = "-" if found.share is None else f"{found.share:.3f}"
        p_value = "-" if found.p_value is None else f"{found.p_value:.2g}"
        rows = [
            ("images", str(found.images), f"at least {config.min_images}"),
            ("files that could not be used", str(len(self.seen.bad)), ""),
            (f"share with domain_score <= {config.tail:g}", share, f"{found.expected:.3f} expected"),
            ("p-value", p_value, f"drift at {config.significance:g} or less"),
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        lines = ["  ".join([row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2]]).rstrip() for row in rows]
        lines += [f"bad: {path}: {reason}" for path, reason in sorted(self.seen.bad.items())[:_SHOWN]]
        against = f"{self.champion.model} version {self.champion.version}, adapted to '{self.domain}'"
        return "\n".join([*lines, f"{against}: {found.verdict}: {found.why}", str(self.folder / "drift.json")])


_MEANS = ("mean_confidence", "answered")


def watch(project: Path, scenario: str, place: Path | None = None, now: datetime | None = None) -> Watched:
    """Tests a batch for drift and writes `drift.json`.

    Args:
        project: its root.
        scenario: a name under `scenarios:`.
        place: folder of images, or file of kept statistics; None: what servers of the champion kept in the project.
        now: kept statistics of `watch.hours` before it are looked at; None: the clock's.

    Raises:
        ConfigError: there is no such scenario, or the section `watch:` is wrong.
        DataError: the place is not there or empty, holds no statistics, or no file of it could be used.
        StoreError: there is no champion, or it answers no `domain_score`.
    """
    project, params = project.resolve(), project / "params.yaml"
    config = load_params(WatchParams, params, {}).watch
    load_params(ScenarioParams, params, {"scenario": f"scenarios.{scenario}"})  # is there such a scenario
    store, champion = find_champion(project, scenario)
    spec, held_out = _adapted_to(store, champion)
    place = place or kept_path(project, champion.model_id)
    _check_place(place, scenario, champion, project)
    moment = now or datetime.now(UTC)
    seen = _asked(store, champion, place, spec, moment) if place.is_dir() else _kept(place, champion, config, moment)
    drift = judge_drift(_summed(seen.batches), held_out, config)
    watched = Watched(scenario, champion, spec["domain"], place, seen, drift, config, project / FOLDER / scenario)
    write_json(watched.folder / "drift.json", watched.as_json())
    return watched


def find_champion(project: Path, scenario: str) -> tuple[Store, Address]:
    """Returns the store and the champion of a scenario in it.

    Raises:
        StoreError: there is none.
    """
    try:
        store = open_store(project)
    except NoStoreError as error:
        raise _no_champion(error.place, scenario) from None
    model = model_name(scenario)
    version = store.aliases(model).get(CHAMPION)
    if version is None:
        raise _no_champion(store.place, scenario)
    return store, Address(model, version, store.model_of(model, version) or "")


def _no_champion(place: str, scenario: str) -> StoreError:
    return StoreError(
        f"{model_name(scenario)}: there is no champion in {place} to compare images with."
        f" Run 'isthmus publish {scenario}', 'isthmus score {scenario}', 'isthmus gate {scenario}' and"
        f" 'isthmus promote {scenario}'"
    )


def _adapted_to(store: Store, champion: Address) -> tuple[dict[str, Any], int]:
    """Returns what a model says of itself (`served.json`), and how many held-out images its scores rest on."""
    # Here and not above: it imports torch, which takes a second that an error message need not wait for.
    from isthmus.evaluation.shift.membership import read_typicalities

    spec = read_spec(store, champion.model_id)
    with tempfile.TemporaryDirectory() as temporary:
        typicality = store.fetch_model_file(champion.model_id, f"{MODEL_FOLDER}/{TYPICALITY}", Path(temporary))
        if spec is None or typicality is None:
            raise StoreError(
                f"{champion.model} version {champion.version}: answers no domain_score, so drift cannot be tested."
                " It was published before there were any: publish and promote a newer one"
            )
        domain: str = spec["domain"]
        return spec, len(read_typicalities(typicality, [domain])[domain].held_out)


def _check_place(place: Path, scenario: str, champion: Address, project: Path) -> None:
    if place.exists():
        return
    if place == kept_path(project, champion.model_id):
        raise DataError(
            f"{place}: no statistics of served inputs are stored for {champion.model} version {champion.version}."
            f" Serve it with 'isthmus serve {scenario}', or name a folder: 'isthmus watch {scenario} FOLDER'"
        )
    raise DataError(f"{place}: no such folder of images, and no such file of kept statistics")


def _asked(store: Store, champion: Address, folder: Path, spec: dict[str, Any], moment: datetime) -> Seen:
    listed, parts = list_inputs(spec, [folder])
    kind = spec["kind"]
    seen = Seen([], [], listed.shown(listed.refused, kind), "")
    for good, bad in answers(store.uri, champion, listed.files, "watch", listed.later, parts):
        seen.files.extend(good)
        seen.bad.update(listed.shown(bad, kind))
        if good:
            seen.batches.append(summarise(list(good.values()), champion.model_id, champion.version, moment))
    if not seen.files:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in sorted(seen.bad.items())[:3])
        raise DataError(f"{folder}: none of {len(listed.files)} files could be used ({reasons})")
    return seen


def _kept(file: Path, champion: Address, config: WatchConfig, moment: datetime) -> Seen:
    batches = list(read_kept(file))
    if not batches:
        raise DataError(f"{file}: contains no statistics. 'isthmus serve' and 'isthmus predict' write them")
    since = (moment - timedelta(hours=config.hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    mine = [batch for batch in batches if batch.model_id == champion.model_id and batch.time >= since]
    return Seen(mine, [], {}, since)


def _mean(batches: list[BatchStatistics], name: str) -> float | None:
    """Returns the mean over the images of a field that batches have a mean of; None where none has it."""
    known = [(getattr(batch, name), batch.count) for batch in batches if getattr(batch, name) is not None]
    return sum(value * count for value, count in known) / sum(count for _, count in known) if known else None


def _summed(batches: list[BatchStatistics]) -> list[int]:
    return [sum(batch.domain_score[part] for batch in batches) for part in range(BINS)]
