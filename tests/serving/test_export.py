"""A registered model as an ONNX file."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import read_json, write_json
from isthmus.evaluation.shift.membership import fit_typicality, write_typicalities
from isthmus.models.trained import export_trained
from isthmus.registry.model.model_files import SPEC, TYPICALITY
from isthmus.registry.model.served import Predictor
from isthmus.registry.publish.model_reference import Address
from isthmus.serving import export
from tests.stages.test_train import place, trained

ADDRESS = Address("isthmus-demo", "3", "m-1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a registered model: the mean of two trained heads on a small vision transformer."""
    root = tmp_path_factory.mktemp("export")
    backbone = {"name": "timm", "architecture": "test_vit", "weights": "random", "options": {"patch_size": 4}}
    files = place(root, backbone=backbone, min_steps=1)
    for method in ("zscore", "mmd"):
        trained(files, method)
    model = root / "model"
    export_trained(files.trained, [("zscore", 0, 4), ("mmd", 0, 4)], files.features, 0, model)
    facts = read_json(files.prepared / "facts.json")
    promise = {"coverage": 0.9, "score": "lac", "temperature": {"source": 1.0, "target": 1.7}}
    promise |= {"threshold": {"source": 0.5, "target": 0.5}}
    spec = {
        "kind": "natural",
        "preprocess": {"image_size": facts["height"]},
        "classes": facts["classes"],
        "tiles": None,
    }
    spec |= {"task": "classification", "domain": "line_b", "fitted": {"line_a": {}, "line_b": {}}, "promise": promise}
    write_json(model / SPEC, spec)
    rows = np.random.default_rng(0).normal(size=(30, 16))
    typical = fit_typicality(rows, np.arange(30) % 2, rows)
    write_typicalities({"line_a": typical, "line_b": typical}, model / TYPICALITY)
    return model


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Pillow.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path / "photos"


def test_the_onnx_files_answer_as_the_registered_model_does_for_any_number_of_images(
    folder: Path, photos: Path, tmp_path: Path
) -> None:
    done = export.export_folder(tmp_path, folder, ADDRESS, tmp_path / "out", [photos], int8=True)

    predictor = Predictor(folder)
    files = sorted(photos.iterdir())
    wanted = predictor.predict(files)
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    for count in (1, 5):
        images = np.stack([predictor.prepared(path) for path in files[:count]])
        found = session.run(["probabilities"], {"images": images})[0]
        columns = [f"probability_{name}" for name in predictor.parts.classes]
        assert found == pytest.approx(wanted[columns].to_numpy()[:count], abs=1e-4)
    facts = read_json(tmp_path / "out" / "model.json")
    assert (facts["model"], facts["version"], facts["opset"]) == ("isthmus-demo", "3", 17)
    assert facts["images"]["shape"][1:] == list(images.shape[1:])
    assert facts["images"]["dtype"] == "uint8"
    assert facts["checks"]["model.onnx"]["equal"] == 1
    assert facts["checks"]["model.int8.onnx"]["largest_difference"] < 0.1
    assert facts["checks"]["model.int8.onnx"]["megabytes"] < facts["checks"]["model.onnx"]["megabytes"]
    kinds = {node.op_type for node in onnx.load(str(tmp_path / "out" / "model.int8.onnx")).graph.node}
    assert "MatMulInteger" in kinds
    assert "Conv" in kinds
    assert "ConvInteger" not in kinds  # with which a convolutional network answers one class for all
    assert facts["gate"]["model.int8.onnx"]["verdict"] == "person"  # there are no results here that it could answer
    assert done.exit_status == 4
    assert done.lines()[-1] == "model.int8.onnx as candidate against version 3: a person must decide"
    assert done.lines()[0].startswith(f"{tmp_path / 'out' / 'model.onnx'}: ")
    assert "on 5 images 100.0% of the predictions are the model's" in done.lines()[0]


def test_a_file_whose_answers_differ_is_not_kept(
    folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = {"images": 5, "largest_difference": 0.02, "equal": 0.8, "milliseconds": 1.0, "megabytes": 1.0}
    monkeypatch.setattr(export, "_check", lambda *_: check)

    with pytest.raises(
        StoreError, match=r"differ from the model's by 0.02 .*80.0% of the predictions are equal; nothing"
    ):
        export.export_folder(tmp_path, folder, ADDRESS, tmp_path / "out", [photos], int8=False)

    assert not (tmp_path / "out").exists()


def test_an_operator_that_onnx_lacks_is_named(
    folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def refuse(*_: object, **__: object) -> None:
        raise torch.onnx.errors.UnsupportedOperatorError("aten::strange", 17, None)

    monkeypatch.setattr(torch.onnx, "export", refuse)

    with pytest.raises(StoreError, match=r"isthmus-demo: its network cannot be written as ONNX: .*aten::strange"):
        export.export_folder(tmp_path, folder, ADDRESS, tmp_path / "out", [photos], int8=False)


def test_other_tasks_broken_images_and_folders_of_other_things_are_refused(
    folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"--images .*bad.png: "):
        export.export_folder(tmp_path, folder, ADDRESS, tmp_path / "out", [photos], int8=False)

    spec = read_json(folder / SPEC)
    monkeypatch.setattr(export.Predictor, "__init__", lambda self, _: setattr(self, "parts", _Parts(spec)))
    with pytest.raises(StoreError, match="isthmus-demo: task segmentation is not exported. Allowed: models of"):
        export.export_folder(tmp_path, folder, ADDRESS, tmp_path / "out", [photos], int8=False)

    monkeypatch.setattr(export, "open_store", lambda _: None)
    monkeypatch.setattr(export, "resolve", lambda *_: ADDRESS)
    with pytest.raises(ConfigError, match=r"--out .*photos: holds something else than an export"):
        export.export(tmp_path, "demo", photos, [photos], int8=False)


def test_images_of_sixteen_bits_are_refused_before_anything_is_exported(
    folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = export.Predictor.prepared
    monkeypatch.setattr(export.Predictor, "prepared", lambda *given: prepared(*given).astype(np.uint16) * 257)

    with pytest.raises(StoreError, match=r"isthmus-demo: its prepared images are uint16, which .* Set 'depth: uint8'"):
        export.export_folder(tmp_path, folder, ADDRESS, tmp_path / "out", [photos], int8=False)

    assert not (tmp_path / "out").exists()


def test_only_an_older_export_and_nothing_beside_it_is_replaced(
    folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "open_store", lambda _: None)
    monkeypatch.setattr(export, "resolve", lambda *_: ADDRESS)
    monkeypatch.setattr(export, "fetch_model", lambda *_: folder)
    out = tmp_path / "out"

    def again() -> None:
        export.export(tmp_path, "demo", out, [photos], int8=False)

    out.mkdir()
    again()  # an empty folder holds nothing that could be lost
    written = (out / "model.json").read_bytes()
    again()
    (out / "model.json").write_text('{"layers": 3}')
    with pytest.raises(ConfigError, match=r"than an export \(a model.json that no export wrote\), which would be"):
        again()
    (out / "model.json").write_text("no JSON")
    with pytest.raises(ConfigError, match="a model.json that no export wrote"):
        again()
    (out / "model.json").write_bytes(written)
    for number in range(7):
        (out / f"notes{number}.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"\(notes0.txt, .*, notes4.txt and 2 more\), which would be replaced. Name"):
        again()

    assert (out / "notes0.txt").read_text() == "mine"


class _Parts:
    def __init__(self, spec: dict[str, object]) -> None:
        self.spec = spec | {"task": "segmentation"}
