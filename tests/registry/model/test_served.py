import base64
import io
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from isthmus.core.config import load_params
from isthmus.core.errors import DataError
from isthmus.core.files import read_json, write_json
from isthmus.data.bounds import TooManyPixelsError
from isthmus.data.manifest import LOCATIONS, read_table
from isthmus.evaluation.selection.choice import parts
from isthmus.evaluation.shift.membership import write_typicalities
from isthmus.evaluation.trained import read_samples
from isthmus.models.trained import export_trained, load_trained
from isthmus.registry.gate.evaluation_log import choice_of
from isthmus.registry.lineage.lineage import read_lineage
from isthmus.registry.model.raw_images import decode
from isthmus.registry.model.served import SPEC, TYPICALITY, Allowance, Predictor
from isthmus.registry.publish.fitted_confidence import promise, typicalities
from isthmus.registry.publish.packaging import ScenarioParams
from isthmus.registry.publish.publish import publish
from isthmus.registry.store.stores import open_store
from tests.registry.asked_project import RAW, drawn_image
from tests.registry.project_files import CLASSES, SIZE, dvc

PROMISE = {"coverage": 0.9, "score": "lac", "temperature": {"source": 1.0, "target": 1.0}}
PROMISE |= {"threshold": {"source": 0.5, "target": 0.5}}
PROBABILITIES = [f"probability_{name}" for name in CLASSES]

# Loads the model as a stranger would: another folder, no editable install, nothing of the project on the path.
STRANGER = """
import json, pathlib, sys
sys.path[:] = [p for p in sys.path if not p.endswith("/src")]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
try:
    import isthmus
    raise SystemExit("the checkout can still be imported")
except ModuleNotFoundError:
    pass
import mlflow, numpy as np, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
pixels = np.load(sys.argv[4])
images = [pathlib.Path(sys.argv[3]), open(sys.argv[3], "rb").read(), pixels]
answer = model.predict(pd.DataFrame({"image": images}))
from mlflow.pyfunc.scoring_server import infer_and_parse_data
import base64
text = base64.b64encode(images[1]).decode()
asked = infer_and_parse_data({"instances": [{"image": text}]}, model.metadata.get_input_schema())
answer = pd.concat([answer, model.predict(asked)])
import isthmus
unwanted = sorted({"dvc", "prefect", "typer"} & set(sys.modules))
print(json.dumps({"rows": answer.to_dict("records"), "code": isthmus.__file__, "unwanted": unwanted}))
"""


@pytest.fixture(scope="module")
def folder(built, tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "model"
    out = built / "out" / "demo"
    export_trained(out / "train", [("coral", 0, 4)], out / "features", 0, place)
    spec = {"scenario": "demo", "kind": "natural", "preprocess": {"image_size": SIZE}, "classes": CLASSES}
    spec |= {"task": "classification", "whole_frame": False}
    spec |= {"domain": "line_b", "fitted": {"line_a": {}, "line_b": {}}, "promise": PROMISE, "tiles": None}
    write_json(place / SPEC, spec)
    write_typicalities(typicalities(read_lineage(built, "demo"), demo(built)), place / TYPICALITY)
    return place


def demo(project):
    return load_params(ScenarioParams, project / "params.yaml", {"scenario": "scenarios.demo"}).scenario


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 24, 3)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_path_the_bytes_and_the_array_of_an_image_get_the_same_answer(folder, picture):
    answer = Predictor(folder).predict([picture, picture.read_bytes(), np.asarray(Pillow.open(picture))])

    probabilities = answer[PROBABILITIES].to_numpy()
    assert list(answer.columns) == ["class", *PROBABILITIES, "set", "answered", "domain_score"]
    assert probabilities[1] == pytest.approx(probabilities[0], abs=1e-6)
    assert probabilities[2] == pytest.approx(probabilities[0], abs=1e-6)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1, 1])
    assert answer["class"][0] == CLASSES[int(probabilities[0].argmax())]


def test_more_images_than_one_batch_keep_their_order(folder, picture):
    blank = np.zeros((SIZE, SIZE, 3), np.uint8)
    answer = Predictor(folder).predict([blank] * 40 + [picture])

    alone = Predictor(folder).predict([picture])

    names = [f"probability_{name}" for name in CLASSES]
    assert answer[names].iloc[40].to_numpy() == pytest.approx(alone[names].iloc[0].to_numpy(), abs=1e-6)
    assert len(answer) == 41


def test_no_image_is_an_empty_answer(folder):
    assert Predictor(folder).predict([]).shape == (0, 7)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "cannot take a int. Allowed: a pathlib.Path, the bytes of an image file, an array"),
        (
            "/etc/hostname",
            "characters of text are not an image file in base64.*the text of a path is not opened",
        ),  # a client's path
        ("/etc/hosts", "characters of text are not an image file"),
        ("/etc/passwd4", "bytes beginning with .* are no image file"),  # a path that happens to be base64
        (b"<html>no image</html>", "21 bytes beginning with b'<html>no' are no image file of a known format"),
        (Path("/no/such.png"), "^no such file"),
        (np.zeros((2, 2, 2, 2)), r"array of shape \[2, 2, 2, 2\], float64. Allowed: numbers, \[H, W\]"),
        (np.array([["a"]]), r"array of shape \[1, 1\], <U1"),
        (np.zeros((0, 4)), r"array of shape \[0, 4\]"),
    ],
)
def test_what_is_no_image_is_refused_with_its_reason(given, message):
    with pytest.raises(DataError, match=message):
        decode(given)


def test_an_image_that_cannot_be_prepared_spoils_no_other_and_is_named_by_its_place(folder, picture, monkeypatch):
    predictor = Predictor(folder)

    def prepare(image, fitted):
        raise MemoryError if image.pixels.shape[0] == 1 else ZeroDivisionError("in /home/jones")

    monkeypatch.setattr(predictor.parts.kind, "prepare", prepare)
    with pytest.raises(DataError, match=r"^image 0: cannot be prepared \(ZeroDivisionError\)$"):
        predictor.predict([picture])
    with pytest.raises(DataError, match=r"^image 0: cannot be prepared \(MemoryError\)$"):
        predictor.predict([np.zeros((1, 1, 3), np.uint8)])


def test_images_of_one_call_have_no_more_pixels_together_than_they_may(folder, picture):
    predictor, size = Predictor(folder), math.prod(decode(picture).pixels.shape[:2])
    bands = np.zeros((10, 10, 9), np.uint8)

    assert len(predictor.predict([picture] * 40, most_pixels=40 * size)) == 40
    with pytest.raises(
        TooManyPixelsError, match=rf"^image 2: .* may have {3 * size - 1} .*; {size - 1} of them are le"
    ):
        predictor.predict([picture] * 3, most_pixels=3 * size - 1)
    left = Allowance(300 + size)
    left.decoded(bands)
    left.decoded(picture)
    with pytest.raises(TooManyPixelsError, match="; 0 of them are left, and its file declares more. Send fewer"):
        left.decoded(picture.read_bytes())


def test_base64_text_as_in_an_instances_request_gets_the_answer_of_its_bytes(folder, picture):
    text = base64.b64encode(picture.read_bytes())

    # MLflow hands on the text of `instances` as bytes, that of a CSV as text
    answer = Predictor(folder).predict([text, text.decode(), picture])

    pd.testing.assert_series_equal(answer.iloc[0], answer.iloc[2], check_names=False)
    pd.testing.assert_series_equal(answer.iloc[1], answer.iloc[2], check_names=False)


def test_a_domain_is_the_targets_unless_it_is_named_and_must_be_known(folder, picture):
    predictor = Predictor(folder)

    pd.testing.assert_frame_equal(predictor.predict([picture]), predictor.predict([picture], "line_b"))
    with pytest.raises(DataError, match=r"the model knows no domain 'line_c'. Allowed: line_a, line_b"):
        predictor.predict([picture], "line_c")


def test_one_of_several_images_in_a_file_is_taken_by_its_part(folder, tmp_path):
    pages = [Pillow.new("RGB", (8, 8), colour) for colour in ((0, 0, 0), (250, 90, 20))]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])

    answer = Predictor(folder).predict([(tmp_path / "pages.tif", "1")])

    alone = Predictor(folder).predict([np.asarray(pages[1])])
    pd.testing.assert_frame_equal(answer, alone)


def _promising(folder, place, **changed):
    shutil.copytree(folder, place)
    write_json(place / SPEC, read_json(place / SPEC) | {"promise": PROMISE | changed})
    return Predictor(place)


def test_a_temperature_moves_probabilities_and_no_class(folder, picture, tmp_path):
    warm = _promising(folder, tmp_path / "warm", temperature={"source": 1.0, "target": 4.0}).predict([picture])

    plain = Predictor(folder).predict([picture])
    powers = plain[PROBABILITIES].to_numpy() ** 0.25
    np.testing.assert_allclose(warm[PROBABILITIES].to_numpy(), powers / powers.sum(), atol=1e-9)
    assert list(warm["class"]) == list(plain["class"])


def test_images_of_the_domain_are_typical_as_often_as_they_should_be_and_noise_never_is(built, folder):
    predictor = Predictor(folder)
    samples = read_samples(built / "out/demo/manifest.parquet", built / "out/demo/prepared")
    paths = read_table(built / "out/demo/locations.parquet", LOCATIONS)["path"].to_numpy()
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (24, 30, 3)).astype(np.uint8) for _ in range(20)]

    for domain, held_out in (("line_b", "test"), ("line_a", "cal")):
        rows = samples.rows([domain], held_out)
        own = predictor.predict([built / RAW / path for path in paths[rows]], domain)["domain_score"]
        steps = 1 + len(rows)
        # ranks of its own distances: each once, up to the rounding of what `train` stored, and one for itself
        np.testing.assert_allclose(np.sort(own) * steps, np.arange(2, steps + 1), atol=1)
        assert predictor.predict(noise, domain)["domain_score"].max() == pytest.approx(1 / steps)
    new = [drawn_image(CLASSES[place % 3], "line_b", rng) for place in range(90)]
    scores = predictor.predict(new)["domain_score"]
    assert scores.mean() == pytest.approx(0.5, abs=0.2)  # 14 held-out images say no more of one draw of them
    assert (scores == scores.min()).mean() < 0.3


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_sets_grow_with_the_threshold_hold_the_class_and_abstain_unless_they_are_one_class(
    folder, picture, tmp_path, score
):
    sizes = []
    for threshold in (0.0, 0.4, 0.7, 1.0, None):
        promised = {"source": threshold, "target": threshold}
        predictor = _promising(folder, tmp_path / f"at{threshold}", threshold=promised, score=score)
        answer = predictor.predict([picture] * 2)
        inside = [name for name in answer["set"][0].split("|") if name]
        assert answer["answered"][0] == (len(inside) == 1)
        assert answer["set"][0] == answer["set"][1]  # an image's set does not hang on its place in a batch
        assert not inside or answer["class"][0] in inside
        sizes.append(len(inside))
    assert sizes == sorted(sizes)
    assert sizes[-1] == len(CLASSES)


def test_a_model_of_tiles_takes_tiles_by_name_and_refuses_whole_frames(folder, picture, tmp_path):
    shutil.copytree(folder, tmp_path / "tiled")
    write_json(tmp_path / "tiled" / SPEC, read_json(folder / SPEC) | {"tiles": {"size": 12}})
    predictor = Predictor(tmp_path / "tiled")
    pixels = np.asarray(Pillow.open(picture))

    named = predictor.predict([(picture, "@18-12-12-12"), pixels[18:30, 12:24]])

    pd.testing.assert_series_equal(named.iloc[0], named.iloc[1], check_names=False)
    message = r"image 1: 30 x 24 pixels; this model takes one tile of 12 x 12 .*Pass \(path, '@top-left-12-12'\)"
    for frame in (picture, picture.read_bytes(), pixels):
        with pytest.raises(DataError, match=message):
            predictor.predict([pixels[:12, :12], frame])
    with pytest.raises(DataError, match=r"image 0: .@24-0-12-12. lies outside its frame of 30 x 24 pixels"):
        predictor.predict([(picture, "@24-0-12-12")])  # beyond the frame's end
    with pytest.raises(DataError, match=r"'@24-0' is not a tile. Allowed: PART@top-left-height-width"):
        predictor.predict([(picture, "@24-0")])


def test_a_model_of_tiles_of_a_stated_scale_takes_no_image_that_states_none(folder, picture, tmp_path):
    shutil.copytree(folder, tmp_path / "tiled")
    write_json(tmp_path / "tiled" / SPEC, read_json(folder / SPEC) | {"tiles": {"size": 12, "unit": "mm"}})

    with pytest.raises(DataError, match=r"image 0: file does not state its \[mm/pixel\]"):
        Predictor(tmp_path / "tiled").predict([picture])


def test_a_broken_image_in_a_batch_is_named_by_its_place(folder, picture):
    with pytest.raises(DataError, match="image 1: "):
        Predictor(folder).predict([picture, picture.read_bytes()[:60]])


def test_a_file_with_several_pages_is_refused(tmp_path):
    pages = [Pillow.new("L", (8, 8), value) for value in (0, 255)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])

    with pytest.raises(DataError, match=r"^holds 2 images; one is expected"):
        decode(tmp_path / "pages.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_bytes_without_a_name_are_known_by_their_signature(kind):
    stream = io.BytesIO()
    Pillow.new("RGB", (9, 7)).save(stream, kind)

    assert decode(stream.getvalue()).pixels.shape == (7, 9, 3)


@pytest.mark.slow
def test_the_registered_model_answers_in_a_process_without_the_projectas_the_pipeline_does(
    published, picture, tmp_path
):
    project, found = published
    np.save(tmp_path / "pixels.npy", np.asarray(Pillow.open(picture)))
    command = [sys.executable, "-I", "-c", STRANGER, found.tracking_uri, f"models:/{found.model_id}"]
    command += [str(picture), str(tmp_path / "pixels.npy")]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert "/src/" not in answer["code"]
    assert Path(answer["code"]).parent.parent.name == "code"
    assert answer["unwanted"] == []
    here = as_the_pipeline(project, picture, tmp_path)
    for row in answer["rows"]:
        assert [row[f"probability_{name}"] for name in CLASSES] == pytest.approx(here, abs=1e-5)
        assert row["domain_score"] == pytest.approx(domain_score_in_the_pipeline(project, picture, tmp_path), abs=1e-5)


@pytest.mark.slow
def test_an_ensemble_is_registered_as_one_model_that_answers_as_the_pipeline_does(published, picture, tmp_path):
    project = Path(shutil.copytree(published[0], tmp_path / "copy", symlinks=True))
    made = read_json(project / "out/demo/choice.json")
    mean = {"chosen": made["chosen"] | {"method": "ensemble"}, "ensemble": {"coral": [0, 1], "source_only": [0, 1]}}
    epochs = {"epochs": made["epochs"] | {"ensemble": 4}}
    write_json(project / "out/demo/choice.json", made | mean | epochs)
    dvc(project, "commit", "-q", "-f")

    found = publish(project, "demo")

    assert found.version != published[1].version
    place = open_store(project)._client.get_logged_model(found.model_id).artifact_location.removeprefix("file://")
    (folder,) = (path.parent for path in Path(place).rglob(SPEC))
    facts = read_json(folder / "classifier.json")
    assert [part["method"] for part in facts["parts"]] == ["coral", "coral", "source_only", "source_only"]
    answers = Predictor(folder).predict([picture])
    assert [answers[f"probability_{name}"][0] for name in CLASSES] == pytest.approx(
        as_the_pipeline(project, picture, tmp_path), abs=1e-5
    )
    lineage = read_lineage(project, "demo")
    assert choice_of(lineage).trained == sorted(lineage.md5_of(folder) for folder in lineage.trained().values())


def as_the_pipeline(project, picture, tmp_path):
    _, logits = embedded(project, picture, tmp_path)
    tempered = logits[0] / promise(read_lineage(project, "demo"), demo(project))["temperature"]["target"]
    return np.exp(tempered) / np.exp(tempered).sum()


def domain_score_in_the_pipeline(project, picture, tmp_path):
    embeddings, _ = embedded(project, picture, tmp_path)
    return typicalities(read_lineage(project, "demo"), demo(project))["line_b"].scores(embeddings)[0]


def embedded(project, picture, tmp_path):
    from isthmus.data.kinds.natural import Config

    out = project / "out" / "demo"
    made = read_json(out / "choice.json")
    chosen = made["chosen"]
    export_trained(out / "train", parts(made, chosen["method"]), out / "features", chosen["seed"], tmp_path / "m")
    prepared = Config(image_size=SIZE).build().prepare(decode(picture), {})
    return load_trained(tmp_path / "m").predict(prepared[None], "line_b")
