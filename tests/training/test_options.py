"""Options of the shared loop: each does what it says, and a run that was cut off ends in the same bytes under each."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.core.files import hash_files
from isthmus.data.batch import Batch, softened
from isthmus.models import ModelConfig
from isthmus.models.recipe import Augment, EarlyStop, Optimiser, Schedule
from isthmus.training import loop
from isthmus.training.data import TrainingData, check_augment
from isthmus.training.loop import LoopSession
from isthmus.training.stopping import should_stop, watched_value
from tests.adapt.small_session import CLASSES, batch, classifier, data, method, session
from tests.require import require

EVERY_OPTION = [
    *({"schedule": Schedule(name=name, every=2, patience=1)} for name in ("constant", "one_cycle", "step", "sgdr")),  # type: ignore[arg-type]
    {"schedule": Schedule(name="plateau", patience=1, watch="entropy")},
    {"optimiser": Optimiser(name="sgd", nesterov=True)},
    {"accumulate": 2},
    {"precision": "bf16"},
    {"precision": "fp16"},
    {"average": 0.9},
    {"average": 0.5, "precision": "fp16", "accumulate": 2, "label_smoothing": 0.1},
]


def run(folder: Path, name: str = "mmd", **changes: object) -> LoopSession:
    running = session(method(name), folder, **changes)  # type: ignore[arg-type]
    running.method.fit(running)
    running.write(folder)
    return running


def outcome(folder: Path) -> str:
    return hash_files([folder / "epochs", folder / "curves.jsonl"])


@pytest.mark.parametrize("changes", EVERY_OPTION, ids=str)
def test_a_run_that_was_cut_off_ends_in_the_same_bytes(
    changes: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    run(tmp_path / "unbroken", **changes)
    run(tmp_path / "default")
    broken = session(method("mmd"), tmp_path / "broken", **changes)  # type: ignore[arg-type]
    real = broken.batches

    def until_killed() -> Iterator[Batch]:
        for number, drawn in enumerate(real()):
            if broken._epoch == 3 and number == 1:
                raise KeyboardInterrupt
            yield drawn

    broken.batches = until_killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.method.fit(broken)

    run(tmp_path / "broken", **changes)

    assert outcome(tmp_path / "broken") == outcome(tmp_path / "unbroken")
    assert outcome(tmp_path / "broken") != outcome(tmp_path / "default")  # the option did something


def stepped(batches: list[Batch], folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    """Weights after these batches, with LayerNorm in the place of BatchNorm."""
    running = session(method("source_only"), folder, classifier(norm="layer"), **changes)  # type: ignore[arg-type]
    running.model.train()
    for given in batches:
        running.step(running.method.losses(running.model, given, 0.0))
    return running.model.state_dict()


def test_accumulating_small_batches_is_one_step_of_the_large_one(tmp_path: Path) -> None:
    large = batch(source=12, target=0)
    parts = [
        Batch(large.inputs[i : i + 4], large.domains[i : i + 4], large.labels[i : i + 4], large.target_index)
        for i in (0, 4, 8)
    ]

    sgd = Optimiser(name="sgd")
    expected = stepped([large], tmp_path / "large", optimiser=sgd)
    found = stepped(parts, tmp_path / "small", accumulate=3, optimiser=sgd)

    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_the_last_few_batches_of_an_epoch_are_one_step_of_their_mean(tmp_path: Path) -> None:
    given = batch(source=8, target=0)
    sgd = Optimiser(name="sgd", momentum=0)  # unlike AdamW it feels the gradient's length
    running = session(method("source_only"), tmp_path, classifier(norm="layer"), accumulate=3, optimiser=sgd)
    running.model.train()
    running.step(running.method.losses(running.model, given, 0.0))
    before = [p.detach().clone() for p in running.model.head.parameters()]

    running._finish_epoch()

    expected = stepped([given], tmp_path / "one", optimiser=sgd)
    assert torch.allclose(running.model.state_dict()["head.weight"], expected["head.weight"], atol=1e-6)
    assert not torch.equal(before[0], running.model.state_dict()["head.weight"])


def test_gradients_longer_than_the_clip_are_cut_to_it(tmp_path: Path) -> None:
    running = session(
        method("source_only"), tmp_path, clip=0.001, optimiser=Optimiser(name="sgd", momentum=0), weight_decay=0.0
    )
    running.model.train()
    before = torch.nn.utils.parameters_to_vector(running.model.parameters()).detach()

    running.step(running.method.losses(running.model, batch(target=0), 0.0))

    moved = torch.nn.utils.parameters_to_vector(running.model.parameters()).detach() - before
    assert float(moved.norm()) == pytest.approx(0.001 * running._rate, rel=0.01)


def test_the_average_follows_by_hand_worked_numbers_and_is_what_is_kept(tmp_path: Path) -> None:
    running = session(method("source_only"), tmp_path, average=0.6)
    running.model.train()
    weights = []
    for seed in range(3):
        running.step(running.method.losses(running.model, batch(target=0, seed=seed), 0.0))
        weights.append(running.model.state_dict()["head.weight"].clone())

    # decay min(.6, 1 - 1/(t+1)): 0, .5, .6
    expected = 0.6 * (0.5 * weights[0] + 0.5 * weights[1]) + 0.4 * weights[2]

    assert torch.allclose(running._served.state_dict()["head.weight"], expected, atol=1e-6)
    assert running._served is not running.model
    running._keep()
    kept = np.load(tmp_path / "epochs" / "000.logits.npy")
    assert np.array_equal(kept, running._predict(running._served, np.arange(len(kept)))["logits"])


@pytest.mark.parametrize(("name", "short"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_short_type_is_used_in_training_alone_and_losses_see_float32(
    name: str, short: torch.dtype, tmp_path: Path
) -> None:
    running = session(method("coral"), tmp_path, precision=name)
    seen: list[torch.dtype] = []
    running.model.head.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    given = batch()

    running.model.train()
    trained = running.model(given.inputs, given.domains)
    running.model.eval()
    scored = running.model(given.inputs, given.domains)

    assert seen == [short, torch.float32]
    assert {trained.logits.dtype, trained.features.dtype, scored.logits.dtype} == {torch.float32}


def test_the_scaler_halves_its_scale_after_an_overflow_and_leaves_the_weights(tmp_path: Path) -> None:
    running = session(method("source_only"), tmp_path, precision="fp16")
    running.model.train()
    before = running.model.head.weight.detach().clone()
    scale = running._scaler.get_scale()
    loss = (running.model.head.weight * 1e37).sum()  # finite, but not times the scale

    running.step({"source": loss})

    assert running._scaler.get_scale() == scale / 2
    assert torch.equal(running.model.head.weight, before)


def test_softened_labels_give_torchs_label_smoothing() -> None:
    logits, given = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(0)), batch(target=0)

    soft = softened(given, CLASSES, 0.2).soft_labels

    assert soft is not None
    found = torch.nn.functional.cross_entropy(logits, soft)
    expected = torch.nn.functional.cross_entropy(logits, given.labels, label_smoothing=0.2)
    assert float(found) == pytest.approx(float(expected), abs=1e-6)


def test_label_smoothing_reaches_the_methods_source_loss(tmp_path: Path) -> None:
    running = session(method("dann"), tmp_path, label_smoothing=0.3)
    running._epoch = 1
    given = next(running.batches())
    logits = running.model.eval()(given.inputs, given.domains).split(given.source_count)[0].logits.detach()

    losses = running.method.losses(running.model, given, 0.0)

    expected = torch.nn.functional.cross_entropy(logits, given.labels, label_smoothing=0.3)
    assert losses["source"].item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", ["mcd", "adda"])
@pytest.mark.parametrize(
    "changes", [{"accumulate": 2}, {"precision": "bf16"}, {"average": 0.9}, EVERY_OPTION[5]], ids=str
)
def test_a_method_with_optimisers_of_its_own_refuses_options_that_do_not_reach_them(
    name: str, changes: dict[str, object], tmp_path: Path
) -> None:
    running = session(method(name), tmp_path, **changes)  # type: ignore[arg-type]

    with pytest.raises(
        ConfigError, match="accumulate, precision and average have no effect on a method with alternating"
    ):
        running.method.fit(running)


def lopsided(shares: list[float] | None) -> TrainingData:
    given = data(source=60)
    labels = given.labels.copy()
    labels[:60] = np.repeat([0, 1, 2], [50, 8, 2])
    wanted = None if shares is None else np.array(shares)
    return TrainingData(given.inputs, given.domains, labels, given.source_train, given.source_val,
                        given.target_train, False, 0, wanted)  # fmt: skip


def drawn_labels(given: TrainingData) -> np.ndarray:
    batches = [b for epoch in range(40) for b in given.batches(epoch, 16, 0, target=False, strong=False)]
    return np.bincount(np.concatenate([b.labels.numpy() for b in batches]), minlength=3) / (16 * len(batches))


def test_source_rows_are_drawn_with_the_wanted_shares_of_classes() -> None:
    assert drawn_labels(lopsided(None)) == pytest.approx([50 / 60, 8 / 60, 2 / 60], abs=0.02)
    assert drawn_labels(lopsided([1 / 3] * 3)) == pytest.approx([1 / 3] * 3, abs=0.03)
    assert drawn_labels(lopsided([0.1, 0.2, 0.7])) == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_class_weights_make_all_classes_count_alike_in_the_batches_that_carry_them() -> None:
    given = replace(lopsided(None), classes=4, weighted=True)
    sources = [given.source_train[0], given.source_train[0][:50]]  # the second has one class alone

    weights = given.class_weights(True)
    of_two = replace(given, source_train=sources).class_weights(True)
    with_target = replace(given, target_labelled=given.source_train[0][58:]).class_weights(True)
    drawn = next(given.batches(1, 16, 0, target=False, strong=False)).class_weights

    assert weights.tolist() == pytest.approx([60 / 50 / 3, 60 / 8 / 3, 60 / 2 / 3, 0])
    assert of_two.tolist() == pytest.approx([1 / 3 / (55 / 60), 1 / 3 / (4 / 60), 1 / 3 / (1 / 60), 0])
    assert with_target.tolist() == pytest.approx([1 / 3 / (25 / 60), 1 / 3 / (4 / 60), 1 / 3 / (31 / 60), 0])
    assert drawn is not None and torch.equal(drawn, weights)


def test_rows_of_a_class_come_one_after_another_before_any_comes_twice() -> None:
    (given,) = [
        b for b in lopsided([0, 1, 0]).batches(1, 16, 0, target=False, strong=False) if True
    ][:1]  # fmt: skip

    counts = np.unique(given.inputs[:, 0].numpy(), return_counts=True)[1]

    assert counts.tolist() == [2] * 8  # 8 rows of class 1, 16 places


def test_watched_values_are_the_fields_own() -> None:
    logits = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32))
    each = [np.log(2), -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))]
    mean = [0.7, 0.3]
    labels = np.array([0, 1])

    assert watched_value("entropy", logits, labels) == pytest.approx(np.mean(each), abs=1e-6)
    expected = np.mean(each) + sum(p * np.log(p) for p in mean)
    assert watched_value("information_maximisation", logits, labels) == pytest.approx(expected, abs=1e-6)
    assert watched_value("source_val_loss", logits, labels) == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2, abs=1e-6)


def test_stopping_waits_for_as_many_kept_epochs_as_patience_says() -> None:
    lines = [{"early_stop_watch": value} for value in (3.0, 2.0, 2.5)] + [{}]

    assert not should_stop(lines, 2)
    assert should_stop(lines, 1)
    assert should_stop([*lines, {"early_stop_watch": 2.0}], 2)
    assert not should_stop(lines, 0)


def test_a_stopped_run_repeats_its_best_kept_epoch_in_the_place_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.5, 0.2, 0.3, 0.4])
    monkeypatch.setattr(loop, "watched_value", lambda *_: next(values))
    running = session(method("mmd"), tmp_path, epochs=6, kept=[1, 2, 3, 4, 5, 6], early_stop=EarlyStop(patience=2))

    running.method.fit(running)
    running.write(tmp_path)

    lines = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line.get("repeats") for line in lines] == [None] * 4 + [2, 2]
    for ending in ("safetensors", "logits.npy", "embeddings.npy"):
        files = [(tmp_path / "epochs" / f"{epoch:03d}.{ending}").read_bytes() for epoch in (2, 5, 6)]
        assert files[0] == files[1] == files[2]


def test_a_stopped_run_that_was_cut_off_before_it_was_copied_stops_at_the_same_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(loop, "watched_value", lambda *_: 1.0)
    changes = {"epochs": 6, "kept": [1, 2, 3, 4, 5, 6], "early_stop": EarlyStop(patience=2)}
    first = run(tmp_path, **changes)
    again = run(tmp_path, **changes)

    assert first._epoch == again._epoch == 3
    assert [line["epoch"] for line in again._curves] == [1, 2, 3, 4, 5, 6]


def test_a_method_that_must_not_see_the_target_is_stopped_by_the_source_alone(tmp_path: Path) -> None:
    running = session(method("source_only"), tmp_path, early_stop=EarlyStop(patience=1, watch="entropy"))
    asked: list[int] = []
    real = running._predict
    running._predict = lambda model, rows: asked.append(len(rows)) or real(model, rows)  # type: ignore[func-returns-value]
    logits, truth = (
        real(running.model, running._data.source_val)["logits"],
        running._data.labels[running._data.source_val],
    )

    found = running._watch("entropy", logits, truth)

    assert asked == []
    assert found == pytest.approx(watched_value("source_val_loss", logits, truth))


def test_a_method_with_a_loop_of_its_own_refuses_to_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="early_stop: test has a loop of its own, which needs all its epochs"):
        session(method("shot"), tmp_path, early_stop=EarlyStop(patience=1))


def test_a_long_epoch_tells_its_losses_and_speed_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_LINES", 0.0)

    run(tmp_path, "dann", epochs=1, kept=[1])

    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("test: epoch 1/1, step 1/2: loss source ")
    assert "domain " in lines[0]
    assert lines[0].endswith(" images/s")
    assert len(lines) == 3


@pytest.mark.parametrize("changes", [{"mixup": 50.0}, {"cutmix": 50.0}, {"erase": 1.0}], ids=str)
def test_augmented_batches_come_again_the_same_and_no_target_label_is_mixed(changes: dict[str, float]) -> None:
    plain = data(images=True)
    given = replace(plain, classes=CLASSES, augment=Augment(**changes))

    first, second = (next(given.batches(1, 16, 0, target=True, strong=False)) for _ in range(2))
    before = next(plain.batches(1, 16, 0, target=True, strong=False))

    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.labels, before.labels)
    assert not torch.equal(first.inputs[:16], before.inputs[:16])
    assert torch.equal(first.inputs[16:], before.inputs[16:])  # a teacher labels the weak views
    assert (first.soft_labels is None) == ("erase" in changes)
    if first.soft_labels is not None:
        assert first.soft_labels.shape == (16, CLASSES)


@pytest.mark.parametrize("changes", [{"randaugment": 2}, {"augmix": 3}, {"erase": 1.0}], ids=str)
def test_a_policy_or_erasing_changes_source_images_and_strong_views_and_no_weak_view_of_the_target(
    changes: dict[str, int],
) -> None:
    plain = data(images=True)
    given = replace(plain, augment=Augment(**changes), kind="natural")

    first, second = (next(given.batches(1, 16, 0, target=True, strong=True)) for _ in range(2))
    before = next(plain.batches(1, 16, 0, target=True, strong=True))

    assert torch.equal(first.inputs, second.inputs)
    assert not torch.equal(first.inputs[:16], before.inputs[:16])
    assert torch.equal(first.inputs[16:], before.inputs[16:])
    assert first.target_strong is not None and before.target_strong is not None
    assert not torch.equal(first.target_strong, before.target_strong)


@pytest.mark.parametrize(
    ("kind", "how", "turned"),
    [("natural", "of_kind", False), ("natural", "mirror", True), ("remote_sensing", "of_kind", True),
     ("remote_sensing", "none", False)],
)  # fmt: skip
def test_images_of_both_domains_are_turned_as_their_kind_stands_it_or_as_told(
    kind: str, how: str, turned: bool
) -> None:
    plain = data(images=True)

    given = replace(plain, kind=kind, augment=Augment(orientation=how))
    before = next(replace(plain, augment=Augment(orientation="none")).batches(1, 16, 0, target=True, strong=False))
    after = next(given.batches(1, 16, 0, target=True, strong=False))

    for rows in (slice(0, 16), slice(16, 32)):
        assert torch.equal(after.inputs[rows], before.inputs[rows]) is not turned
    assert torch.equal(after.labels, before.labels)


@pytest.mark.slow  # the import of MONAI
@pytest.mark.parametrize(
    ("artefacts", "source", "strong"), [(None, False, True), (0.0, False, False), (1.0, True, True)]
)
def test_artefacts_are_of_strong_views_of_medical_images_and_of_source_images_where_they_are_set(
    artefacts: float | None, source: bool, strong: bool
) -> None:
    require("monai", importlib.util.find_spec("monai") is not None)
    plain = data(images=True)
    given = replace(plain, augment=Augment(artefacts=artefacts), kind="medical")

    first, second = (next(given.batches(1, 16, 0, target=True, strong=True)) for _ in range(2))
    before = next(plain.batches(1, 16, 0, target=True, strong=True))

    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.inputs[:16], before.inputs[:16]) == (not source)
    assert torch.equal(first.inputs[16:], before.inputs[16:])  # a teacher is asked about weak views
    assert first.target_strong is not None and second.target_strong is not None and before.target_strong is not None
    assert torch.equal(first.target_strong, second.target_strong)
    assert torch.equal(first.target_strong, before.target_strong) == (not strong)


def test_other_kinds_have_no_artefacts_of_medical_devices() -> None:
    check_augment(Augment(), "natural")
    check_augment(Augment(artefacts=0.0), "natural")
    with pytest.raises(ConfigError, match=r"artefacts: bias field, .* are of medical images \(got kind: natural"):
        check_augment(Augment(artefacts=0.5), "natural")


def test_mixed_labels_are_smoothed_too_and_reach_the_loss(tmp_path: Path) -> None:
    given = replace(data(images=True), classes=CLASSES, augment=Augment(mixup=1.0))
    running = session(method("fixmatch"), tmp_path, given=given, label_smoothing=0.1)
    running._epoch = 1

    drawn = next(running.batches())

    raw = next(given.batches(1, 16, 3, target=True, strong=True)).soft_labels
    assert raw is not None
    assert drawn.soft_labels is not None
    assert torch.allclose(drawn.soft_labels, 0.9 * raw + 0.1 / CLASSES)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"mode": "full", "augment": {"mixup": 1, "cutmix": 1}}, "mixup and cutmix cannot both mix one batch"),
        ({"mode": "full", "augment": {"randaugment": 2, "augmix": 3}}, "randaugment and augmix cannot both change one"),
        (
            {"mode": "full", "augment": {"strength": 5.0}},
            "strength applies to randaugment, augmix and artefacts, and none is set",
        ),
        (
            {"mode": "full", "class_weights": "balanced", "sampling": "balanced"},
            "class_weights: balanced and sampling: balanced correct",
        ),
        (
            {"mode": "full", "class_weights": "balanced", "class_shares": {"a": 1}},
            "class_weights: balanced and class_shares correct the",
        ),
        ({"mode": "frozen", "augment": {"erase": 0.5}}, "augment changes images, which frozen mode does not see"),
        ({"mode": "full", "layer": 9}, "layer is of frozen features of cells. Set mode: frozen, or drop layer"),
    ],
)
def test_options_that_contradict_each_other_are_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validated(ModelConfig, {"backbone": {"name": "small_cnn"}, **section}, "models.small_cnn.")


def test_a_second_phase_begins_at_the_full_rate_whatever_the_plateaus_of_the_first(tmp_path: Path) -> None:
    schedule = Schedule(name="plateau", patience=1, factor=0.1, warm_up=0)
    running = session(method("shot"), tmp_path, epochs=6, phases=2, schedule=schedule)
    values = iter([1.0, 2.0, 3.0, 1.0, 2.0, 3.0])
    running._watch = lambda *_: next(values)  # type: ignore[method-assign]

    running.method.fit(running)

    rates = [line["learning_rate"] for line in running._curves]
    assert rates == pytest.approx([0.01, 0.01, 0.001] * 2)


@pytest.mark.parametrize("name", ["shot", "mme"])
def test_the_average_is_of_the_head_as_the_method_sets_it(tmp_path: Path, name: str) -> None:
    running = session(method(name), tmp_path, average=0.9)
    running.model.train()

    running.step(running.method.losses(running.model, batch(), 0.0))

    assert torch.equal(running._served.head.weight, running.model.head.weight)  # type: ignore[arg-type]
