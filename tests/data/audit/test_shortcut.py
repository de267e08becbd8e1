import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow
from sklearn.metrics import balanced_accuracy_score

from isthmus.core.errors import DataError
from isthmus.data.audit import shortcut
from isthmus.data.audit.pixel_facts import pixel_facts
from isthmus.data.audit.shortcut import CUES, shortcuts, told_by
from isthmus.data.image import Image
from isthmus.data.ingest.split import group_key
from isthmus.data.ingest.tables import IngestConfig
from isthmus.stages import ingest
from tests.raw_folders import scenario, write_raw
from tests.stages.test_ingest import outputs, run


def keys(count: int, salt: str = "") -> np.ndarray:
    return np.array([group_key(f"{salt} {k}") for k in range(count)])


def images(rng: np.random.Generator, each: int = 150) -> pd.DataFrame:
    """Two domains, two source classes, every cue without a meaning."""
    count = 2 * each
    return pd.DataFrame(
        {
            "image_id": sorted(keys(count)),
            "domain": ["a"] * each + ["b"] * each,
            "group": keys(count, "group"),
            "label": pd.array([*rng.integers(0, 2, each), *[None] * each], dtype="Int32"),
            "file_bytes": rng.integers(900, 1100, count),
            "height": 20,
            "width": rng.integers(20, 40, count),
            "corners": list(rng.normal(size=(count, 8)).astype(np.float32)),
        }
    )


def found(told: dict) -> set[str]:
    return {cue for cue in CUES if told[cue]["found"]}


def test_cues_without_a_meaning_are_hardly_ever_called_a_shortcut() -> None:
    told = [shortcuts(images(np.random.default_rng(k)), "b", 0) for k in range(8)]

    alarms = sum(len(found(t["domain"])) + len(found(t["class"]["a"])) for t in told)
    assert alarms <= 2  # of 48 questions; 0 to 2 % were measured


@pytest.mark.parametrize("groups", [10, 60])
def test_what_is_equal_within_a_lot_but_says_nothing_of_other_lots_is_no_shortcut(groups: int) -> None:
    # an image-wise split would find lots again and call it a shortcut
    wrong = 0
    for k in range(20):
        rng = np.random.default_rng(k)
        lots = np.repeat(keys(groups, str(k)), 12)
        answers = np.repeat(np.arange(groups) % 2, 12)
        cue = np.repeat(rng.normal(size=groups), 12) + 0.01 * rng.normal(size=12 * groups)
        wrong += bool(told_by(cue[:, None], answers, lots, 0)["found"])

    assert wrong <= 1


@pytest.mark.parametrize(("cue", "column"), [("file_size", "file_bytes"), ("aspect_ratio", "width")])
def test_a_number_that_tells_the_class_is_found_and_the_other_cues_are_not(cue: str, column: str) -> None:
    frame = images(np.random.default_rng(0))
    frame[column] += 25 * frame["label"].fillna(0).astype(int) * (10 if column == "file_bytes" else 1)

    told = shortcuts(frame, "b", 0)["class"]["a"]

    assert found(told) == {cue}
    assert told[cue]["balanced_accuracy"] > 0.9
    assert told[cue]["chance"] == 0.5
    assert told[cue]["low"] <= told[cue]["balanced_accuracy"] <= told[cue]["high"]


def test_a_mark_in_one_corner_tells_the_class_and_nothing_else_does() -> None:
    rng = np.random.default_rng(0)
    frame = images(rng)
    pictures = rng.integers(0, 250, (len(frame), 40, 40, 1)).astype(np.uint8)
    for place, label in enumerate(frame["label"].fillna(0)):
        pictures[place, -4:, :3] = 255 if label else 0
    frame["corners"] = [pixel_facts(Image(p, "grey")).corners for p in pictures]

    told = shortcuts(frame, "b", 0)

    assert found(told["class"]["a"]) == {"corners"}
    assert told["class"]["a"]["corners"]["balanced_accuracy"] > 0.95


def test_several_sources_are_asked_apart_and_the_domain_among_all() -> None:
    rng = np.random.default_rng(1)
    third = images(rng).query("domain == 'a'").assign(domain="c")
    frame = pd.concat([images(rng), third], ignore_index=True)
    frame["image_id"] = sorted(keys(len(frame), "id"))
    frame["group"] = keys(len(frame), "lot")
    frame.loc[frame["domain"] == "c", "file_bytes"] += 250 * frame["label"].fillna(0).astype(int)

    told = shortcuts(frame, "b", 0)

    assert told["domain"]["file_size"]["chance"] == pytest.approx(1 / 3, abs=1e-4)
    assert {domain: found(cues) for domain, cues in told["class"].items()} == {"a": set(), "c": {"file_size"}}


def test_the_number_is_the_balanced_accuracy_of_guesses_that_never_saw_the_group() -> None:
    rng = np.random.default_rng(3)
    groups, answers = keys(90)[np.arange(300) % 90], rng.choice(3, 300, p=[0.8, 0.15, 0.05]).astype(np.int64)
    cue = (answers + rng.normal(size=300))[:, None]

    told = told_by(cue, answers, groups, 0)

    guessed = shortcut._guessed(cue, answers, groups, 5, 0)
    assert told["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(answers, guessed), abs=1e-4)
    fold = shortcut._folds(answers, groups, 5)
    assert set(fold) == set(range(5))
    assert all(len(set(fold[groups == name])) == 1 for name in set(groups))


def test_an_answer_with_one_group_leaves_the_question_open() -> None:
    told = told_by(np.zeros((4, 1)), np.array([0, 0, 0, 1]), keys(4), 0)

    assert told["chance"] == 0.5
    assert {told[name] for name in ("balanced_accuracy", "low", "high", "skill", "found")} == {None}


def test_at_most_so_many_images_of_a_domain_are_looked_at_whichever_come_first_by_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortcut, "LARGEST", 40)
    frame = images(np.random.default_rng(0))
    small = frame.groupby("domain").head(40)

    assert shortcuts(frame.sample(frac=1, random_state=0), "b", 0) == shortcuts(small, "b", 0)


def marked(folder: Path) -> Path:
    """Writes a raw folder in which a bright frame gives the source's class away."""
    raw = write_raw(folder)
    for path in sorted((raw / "line_a" / "crack").iterdir()):
        pixels = np.asarray(Pillow.open(path)).copy()
        pixels[:3], pixels[-3:] = 255, 255
        Pillow.fromarray(pixels).save(path)
    return raw


def limited(raw: Path, out: Path, changes: dict[str, object] | None = None, **limits: float) -> None:
    """Runs `ingest` on a scenario with limits."""
    params = ingest.Params(scenario=scenario(**(changes or {})), ingest=IngestConfig(workers=1, **limits), seed=0)
    ingest.run(params, raw=raw, **outputs(out))


def test_the_audit_holds_every_cue_and_a_shortcut_alone_does_not_stop_the_run(tmp_path: Path) -> None:
    out = run(marked(tmp_path / "raw"), tmp_path / "out")

    told = json.loads((out / "audit.json").read_text())["shortcuts"]
    assert told["class"]["line_a"]["corners"]["found"] is True
    assert told["class"]["line_a"]["aspect_ratio"]["found"] is False
    assert set(told["class"]) == {"line_a"}  # nothing is asked of the target's classes


def test_a_limit_on_class_shortcuts_stops_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    raw = marked(tmp_path / "raw")

    with pytest.raises(
        DataError,
        match=r"the class in source 'line_a' can be predicted from the corners alone: balanced accuracy"
        r" (0\.9\d|1\.00) where"
        r" chance is 0\.50 \(99\.9% interval .*'ingest\.max_class_shortcut' in params\.yaml allows 30%\. Look at the"
        r" corners: .*\(roi\).*Or raise the limit\nThen run 'dvc repro' again",
    ):
        limited(raw, tmp_path / "out", max_class_shortcut=0.3)

    assert not (tmp_path / "out").exists()


def test_a_limit_on_domain_shortcuts_stops_the_run_and_a_limit_that_holds_does_not(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw")
    for path in sorted((raw / "line_b").rglob("*.png")):
        Pillow.open(path).resize((20, 30)).save(path)

    with pytest.raises(
        DataError, match=r"the domain can be predicted from the aspect ratio alone.*'ingest\.max_domain_"
    ):
        limited(raw, tmp_path / "out", max_domain_shortcut=0.5)

    limited(raw, tmp_path / "out", max_class_shortcut=0.9)
    assert (tmp_path / "out" / "audit.json").is_file()
