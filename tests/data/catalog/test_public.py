import dataclasses
import functools
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import hash_files
from isthmus.data.catalog import conversion, download, pairs, public
from isthmus.data.catalog.pair import PublicPair
from isthmus.data.catalog.pairs import PAIRS
from isthmus.data.catalog.public import fetch
from isthmus.data.ingest.scan import find_images
from isthmus.data.scenario import Scenario
from tests.data.add.test_register import project

CLASSES = ["inclusion", "oxide_scale", "scratch"]


def write_mirror(folder: Path, classes: list[str] = CLASSES, domains: tuple[str, str] = ("neu", "xsdd")) -> Path:
    """Writes a small folder laid out as the real mirror's: files and a manifest."""
    rows = []
    for domain in domains:
        for name in [*classes, "other"]:
            for number in range(4):
                path = folder / domain / name / f"{name} {number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((8, 8), hash((domain, name, number)) % 251, np.uint8)).save(path)
                sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
                relative = path.relative_to(folder).as_posix()
                split = "test" if number == 3 else "train"
                rows.append((relative, domain, name, split, name, f"{domain}/deep/{relative}", sha256))
    columns = ["path", "domain", "label", "split", "orig_label", "source_file", "sha256"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "manifest.csv", index=False)
    return folder


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small steel mirror whose manifest the catalogue vouches for."""
    folder = write_mirror(tmp_path / "mirror" / "steel_neu_xsdd")
    pair = dataclasses.replace(PAIRS["steel"], checks={"manifest.csv": sha(folder / "manifest.csv")})
    monkeypatch.setitem(PAIRS, "steel", pair)
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0))
    return tmp_path / "mirror"


@pytest.fixture
def web(mirror: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(mirror)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_pair_from_a_mirror_folder_is_ready_to_run(
    home: Path, mirror: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = fetch("steel", home, str(mirror))

    said = capsys.readouterr().err
    assert said.index("Licence: NEU: none stated") < said.index("data/raw/steel: ready")
    table = pd.read_csv(raw / "images.csv")
    assert list(table) == ["path", "domain", "label", "split"]
    assert len(table) == 2 * 3 * 4  # the class that the scenario does not score stays out
    assert (home / "data" / "raw" / "steel.dvc").is_file()
    assert not (home / ".isthmus" / "downloads" / "steel").exists()
    params = yaml.safe_load((home / "params.yaml").read_text())
    scenario = Scenario.model_validate(params["scenarios"]["steel"])
    found, bad = find_images(raw, scenario)
    assert (len(found), bad) == (24, [])
    assert {f.split for f in found} == {"train", "test"}
    assert "# mine" in (home / "params.yaml").read_text()


def test_fetching_twice_changes_nothing(home: Path, mirror: Path) -> None:
    raw = fetch("steel", home, str(mirror))
    before = hash_files([raw]), (home / "params.yaml").read_text(), (home / "data" / "README.md").read_text()

    fetch("steel", home, str(mirror))

    assert (hash_files([raw]), (home / "params.yaml").read_text(), (home / "data" / "README.md").read_text()) == before


def test_a_mirror_on_the_web_gives_the_same_files(home: Path, web: str, mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "params.yaml").write_text("scenarios: {}\n")

    raw = fetch("steel", home, web)

    assert hash_files([raw]) == hash_files([fetch("steel", project(tmp_path / "two"), str(mirror))])


def test_a_broken_off_fetch_keeps_what_it_has_and_goes_on_from_there(home: Path, mirror: Path) -> None:
    lost = mirror / "steel_neu_xsdd" / "xsdd" / "scratch" / "scratch 3.png"
    content = lost.read_bytes()
    lost.unlink()
    with pytest.raises(DataError, match=r"scratch 3\.png: cannot be read"):
        fetch("steel", home, str(mirror))
    kept = list((home / ".isthmus" / "downloads" / "steel").rglob("*.png"))
    assert kept
    assert not (home / "data" / "raw" / "steel").exists()
    assert "steel" not in (home / "params.yaml").read_text()
    lost.write_bytes(content)
    (mirror / "steel_neu_xsdd" / kept[0].relative_to(home / ".isthmus" / "downloads" / "steel")).unlink()

    raw = fetch("steel", home, str(mirror))

    assert len(list(raw.rglob("*.png"))) == 24


def test_a_changed_file_of_the_mirror_is_refused(home: Path, mirror: Path) -> None:
    (mirror / "steel_neu_xsdd" / "neu" / "scratch" / "scratch 0.png").write_bytes(b"other")

    with pytest.raises(DataError, match=r"scratch 0\.png: SHA-256 is .*, expected .*nothing was saved"):
        fetch("steel", home, str(mirror))


def test_a_changed_manifest_is_refused(home: Path, mirror: Path) -> None:
    with (mirror / "steel_neu_xsdd" / "manifest.csv").open("a") as stream:
        stream.write("\n")

    with pytest.raises(DataError, match=r"manifest\.csv: SHA-256 is .*, expected"):
        fetch("steel", home, str(mirror))


def test_a_raw_folder_with_other_content_is_left_alone(home: Path, mirror: Path) -> None:
    raw = fetch("steel", home, str(mirror))
    (raw / "neu" / "scratch" / "scratch 0.png").unlink()

    with pytest.raises(DataError, match=r"steel: already exists and its neu/scratch/scratch 0\.png is gone or changed"):
        fetch("steel", home, str(mirror))


def test_a_project_without_dvc_is_told_so(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "params.yaml").write_text("scenarios: {}\n")

    with pytest.raises(StoreError, match=r"'dvc add' failed in .*bare"):
        fetch("steel", tmp_path / "bare", str(mirror))


def test_an_unknown_pair_is_refused_with_the_known_ones(home: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no public pair 'steal'\. Did you mean 'steel'\? There are: anomaly_tiles, blood"
    ):
        fetch("steal", home, None)


def test_the_origin_gives_the_files_that_the_bundled_manifest_vouches_for(
    home: Path, web: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a server that lays the files out as the carriers do: <repository>/deep/<path>
    deep = mirror / "deep"
    (mirror / "steel_neu_xsdd").rename(deep)
    pair = dataclasses.replace(PAIRS["steel"], urls={"neu": web, "xsdd": web})
    monkeypatch.setitem(PAIRS, "steel", pair)
    monkeypatch.setattr(public, "_bundled", lambda _: (deep / "manifest.csv").read_bytes())

    raw = fetch("steel", home, None)

    assert len(list(raw.rglob("*.png"))) == 24


def test_without_a_network_the_origin_ends_in_one_message_that_names_the_mirror(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {"neu": "http://127.0.0.1:9", "xsdd": "http://127.0.0.1:9"}
    monkeypatch.setitem(PAIRS, "steel", dataclasses.replace(PAIRS["steel"], urls=nowhere))
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0))

    with pytest.raises(DataError, match=r"cannot be reached .*give '--mirror'"):
        fetch("steel", home, None)

    assert not (home / "data").exists()


@pytest.mark.parametrize("name", sorted(name for name, pair in PAIRS.items() if pair.mirror_only))
def test_pairs_whose_origin_nothing_verifies_need_a_mirror(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"nothing verifies the origin's files \(https.*isthmus fetch {name} --mirror"):
        fetch(name, tmp_path, None)

    assert not list(tmp_path.iterdir())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[dict[str, str]]], str]:
    """Writes a mirror of one data set from lines of its manifest; its pairs are vouched for. Returns the mirror."""

    def write(folder: str, lines: list[dict[str, str]]) -> str:
        home = tmp_path / "mirror" / folder
        for line in lines:
            (home / line["path"]).parent.mkdir(parents=True, exist_ok=True)
            (home / line["path"]).write_bytes(line["path"].encode())
            line["sha256"] = sha(home / line["path"])
        pd.DataFrame(lines).to_csv(home / "manifest.csv", index=False)
        for name in [name for name, pair in PAIRS.items() if pair.folder == folder]:
            pair = dataclasses.replace(PAIRS[name], checks={"manifest.csv": sha(home / "manifest.csv")})
            monkeypatch.setitem(PAIRS, name, pair)
        return str(tmp_path / "mirror")

    return write


def files(raw: Path) -> list[str]:
    return sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file())


def written(home: Path, name: str) -> dict[str, Any]:
    section: dict[str, Any] = yaml.safe_load((home / "params.yaml").read_text())["scenarios"][name]
    return section


def test_images_come_with_their_masks_and_groups_and_without_what_belongs_to_no_image(home: Path, small: Any) -> None:
    mirror = small(
        "seg_nuclei",
        [
            {"path": "masks/a.png"},
            {"path": "instances/a.png"},
            *(
                {"path": f"images/{n}.png", "domain": domain, "split": split, "group": f"0{n}", "mask": mask}
                for n, domain, split, mask in [(1, "fluorescence", "train", "masks/a.png"), (2, "stained", "test", "")]
            ),
        ],
    )

    raw = fetch("seg_nuclei", home, mirror)

    assert (raw / "images.csv").read_text().splitlines() == [
        "path,domain,split,group,mask",
        "images/1.png,fluorescence,train,01,masks/a.png",
        "images/2.png,stained,test,02,",
    ]
    assert files(raw) == ["images.csv", "images/1.png", "images/2.png", "masks/a.png"]
    section = written(home, "seg_nuclei")
    assert (section["task"], section["classes"]) == ("segmentation", ["background", "nucleus"])
    (raw / "masks" / "a.png").write_bytes(b"other")
    with pytest.raises(DataError, match=r"already exists and its masks/a\.png is gone or changed"):
        fetch("seg_nuclei", home, mirror)


def test_images_come_with_the_file_of_their_domains_boxes(home: Path, small: Any) -> None:
    mirror = small(
        "det_blood_cells",
        [
            *({"path": f"annotations_{domain}.json", "domain": domain} for domain in ("bccd", "aslan")),
            {"path": "images/1.jpg", "domain": "bccd", "split": "train", "group": "01"},
            {"path": "images/2.png", "domain": "aslan", "split": "test", "group": "02"},
        ],
    )

    raw = fetch("det_blood_cells", home, mirror)

    assert (raw / "images.csv").read_text().splitlines() == [
        "path,domain,split,group,boxes",
        "images/1.jpg,bccd,train,01,annotations_bccd.json",
        "images/2.png,aslan,test,02,annotations_aslan.json",
    ]
    assert (raw / "annotations_aslan.json").is_file()
    assert written(home, "det_blood_cells")["task"] == "detection"


def test_a_second_date_is_a_column_and_a_manifest_without_test_images_splits_nothing(home: Path, small: Any) -> None:
    lines = []
    for city in ("taizhou", "nanjing"):
        place = {"domain": city, "split": "train", "group": city}
        lines += [
            {"path": f"masks/{city}.png"},
            {"path": f"{city}/1.tif", **place, "mask": f"masks/{city}.png", "second": f"{city}/2.tif"},
            {"path": f"{city}/2.tif", **place},
        ]

    raw = fetch("change_landsat", home, small("change_landsat", lines))

    assert (raw / "images.csv").read_text().splitlines() == [
        "path,domain,group,mask,image_b",
        "nanjing/1.tif,nanjing,nanjing,masks/nanjing.png,nanjing/2.tif",
        "taizhou/1.tif,taizhou,taizhou,masks/taizhou.png,taizhou/2.tif",
    ]
    assert len(files(raw)) == 7
    assert written(home, "change_landsat")["tiles"] == {"size": 50, "blocks": 8}


def test_directions_between_the_same_domains_share_one_raw_folder(home: Path, small: Any) -> None:
    classes = PAIRS["pacs_photo_sketch"].section["classes"]
    lines = [
        {"path": f"{domain}/{label}/1.jpg", "domain": domain, "label": label}
        for domain in ("photo", "sketch", "art_painting")
        for label in classes
    ]
    mirror = small("pacs", lines)
    raw = fetch("pacs_photo_sketch", home, mirror)
    before = hash_files([raw])

    again = fetch("pacs_art_painting_photo", home, mirror)

    assert (again, hash_files([again])) == (raw, before)
    assert sorted(path.name for path in raw.parent.iterdir() if path.name != ".gitignore") == ["pacs", "pacs.dvc"]
    assert (home / "data" / "README.md").read_text().count("`pacs`") == 1
    scenario = Scenario.model_validate(written(home, "pacs_art_painting_photo"))
    found, bad = find_images(again, scenario)
    assert ({f.domain for f in found}, len(found), bad) == ({"art_painting", "photo"}, 2 * len(classes), [])


def test_a_manifest_that_names_no_place_in_the_repository_is_continued_by_its_own_paths(
    home: Path, small: Any, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [{"path": f"{domain}/dog/1.jpg", "domain": domain, "label": "dog"} for domain in ("photo", "sketch")]
    manifest = Path(small("pacs", lines)) / "pacs" / "manifest.csv"
    pair = dataclasses.replace(PAIRS["pacs_photo_sketch"], urls=dict.fromkeys(("photo", "sketch"), f"{web}/pacs"))
    monkeypatch.setitem(PAIRS, "pacs_photo_sketch", pair)
    monkeypatch.setattr(public, "_bundled", lambda _: manifest.read_bytes())

    raw = fetch("pacs_photo_sketch", home, None)

    assert files(raw) == ["images.csv", "photo/dog/1.jpg", "sketch/dog/1.jpg"]


def test_the_list_names_every_pair_and_the_origin_of_a_family_once() -> None:
    listed = pairs.listing()

    assert all(f"{name}: {pair.source} -> {pair.target} (" in listed for name, pair in PAIRS.items())
    assert listed.count("Office-Caltech10") == listed.count("PACS, 7 classes") == 1
    assert "change_landsat: taizhou -> nanjing (change)" in listed
    assert listed.count("From a mirror alone") == len({pair.raw for pair in PAIRS.values() if pair.mirror_only})


@pytest.mark.parametrize(("name", "source"), [("mnist_usps", "mnist"), ("usps_mnist", "usps")])
def test_digits_are_written_as_png_in_their_own_size(
    name: str, source: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mirror" / "digits_mnist_usps"
    folder.mkdir(parents=True)
    rng, digits = np.random.default_rng(0), np.arange(20, dtype=np.uint8) % 10
    mnist = rng.integers(0, 256, (20, 28, 28)).astype(np.uint8)
    usps = rng.random((20, 16, 16)).astype(np.float32)
    np.savez(folder / "mnist5k_28x28_uint8.npz", x=mnist, y=digits)
    np.savez(folder / "usps_16x16_float32.npz", x_train=usps, y_train=digits, x_test=usps[::-1], y_test=digits)
    pair: PublicPair = dataclasses.replace(PAIRS[name], checks={p.name: sha(p) for p in sorted(folder.iterdir())})
    monkeypatch.setitem(PAIRS, name, pair)

    raw = fetch(name, home, str(tmp_path / "mirror"))

    fetch(name, home, str(tmp_path / "mirror"))
    assert np.array_equal(np.asarray(Image.open(raw / "mnist" / "3" / "mnist-all-00013.png")), mnist[13])
    found = np.asarray(Image.open(raw / "usps" / "2" / "usps-train-00002.png"))
    assert np.array_equal(found, np.rint(usps[2] * 255))
    table = pd.read_csv(raw / "images.csv", keep_default_na=False)
    assert table.groupby("domain")["split"].unique().map(sorted).to_dict() == {"mnist": [""], "usps": ["test", "train"]}
    assert yaml.safe_load((home / "params.yaml").read_text())["scenarios"][name]["source"] == [source]
    (raw / "usps" / "2" / "usps-train-00002.png").write_bytes(b"")
    with pytest.raises(DataError, match="already exists and its usps/2/usps-train-00002.png is gone or changed"):
        fetch(name, home, str(tmp_path / "mirror"))


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_every_known_pair_is_a_valid_scenario_with_origin_and_licence(name: str) -> None:
    pair = pairs.public_pair(name)

    Scenario.model_validate(pair.scenario()).kind_config("preprocess.")

    assert pair.origin and pair.licence
    assert {pair.source, pair.target} <= set(pair.urls)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("steel", {"neu": 900, "xsdd": 638}),
        ("blood", {"pbc": 480, "tecom": 299}),
        ("scenes", {"aid": 700, "rsscn7": 700}),
        ("pacs_photo_sketch", {"photo": 350, "sketch": 350, "art_painting": 350}),
    ],
)
def test_the_bundled_manifests_are_the_pinned_ones_and_name_an_address_and_a_hash_for_every_file(
    name: str, counts: dict[str, int]
) -> None:
    pair = PAIRS[name]

    rows = public._manifest(pair, Path("unused"), None)

    assert {domain: sum(row.domain == domain for row in rows) for domain in pair.urls} == counts
    assert all(len(row.sha256) == 64 for row in rows)
    assert {bool(row.source_file.partition("/")[2]) for row in rows} == {name != "pacs_photo_sketch"}
    packed = {domain for domain, recipe in pair.recoded.items() if recipe == "png"}
    assert {row.domain for row in rows if row.pixels} == packed
    assert all(len(row.pixels) == 64 for row in rows if row.domain in packed)


def recoded_origin(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes an origin whose target files are not the known bytes; the catalogue vouches for the known ones."""
    pair, rng, rows, pixels = PAIRS[name], np.random.default_rng(0), [], []
    recipe = pair.recoded[pair.target]
    for domain in (pair.source, pair.target):
        for label in pair.section["classes"]:
            suffix = "bmp" if domain == pair.target and recipe == "png" else "jpg"
            there = folder / "deep" / domain / f"{label} 1.{suffix}"
            there.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(there)
            known = folder / "known"
            known.write_bytes(there.read_bytes())
            path = f"{domain}/{label}/1.{suffix}"
            if domain == pair.target:
                conversion.RECIPES[recipe](known)
                path = path.replace(".bmp", ".png")
                pixels.append((path, conversion.pixels_sha256(known)))
            # a PNG of another zlib: its bytes vouch for nothing
            digest = "0" * 64 if path.endswith(".png") else sha(known)
            rows.append((path, domain, label, "train", f"top/deep/{domain}/{there.name}", digest))
    columns = ["path", "domain", "label", "split", "source_file", "sha256"]
    manifest = pd.DataFrame(rows, columns=columns).to_csv(index=False).encode()
    hashes = pd.DataFrame(pixels, columns=["path", "sha256"]).to_csv(index=False).encode()
    monkeypatch.setattr(public, "_bundled", lambda file: hashes if "pixels" in file else manifest)
    checks = {"manifest.csv": hashlib.sha256(manifest).hexdigest()}
    monkeypatch.setitem(PAIRS, name, dataclasses.replace(pair, checks=checks, urls=dict.fromkeys(pair.urls, "")))
    return folder / "deep"


@pytest.mark.parametrize("name", ["blood", "scenes"])
def test_an_origin_with_other_files_gives_the_known_pixels_and_may_be_fetched_again(
    name: str, home: Path, web: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = recoded_origin(name, mirror, monkeypatch)
    pair = PAIRS[name]
    monkeypatch.setitem(PAIRS, name, dataclasses.replace(pair, urls=dict.fromkeys(pair.urls, web)))

    raw = fetch(name, home, None)

    label = pair.section["classes"][0]
    if name == "blood":
        origin = np.asarray(Image.open(deep / "tecom" / f"{label} 1.bmp"))
        assert np.array_equal(np.asarray(Image.open(raw / "tecom" / label / "1.png")), origin)
    else:
        assert np.asarray(Image.open(raw / "rsscn7" / label / "1.jpg")).shape == (224, 224, 3)
    source = (raw / pair.source / label / "1.jpg").read_bytes()
    assert source == (deep / pair.source / f"{label} 1.jpg").read_bytes()
    fetch(name, home, None)
    next((raw / pair.target / label).iterdir()).write_bytes(source)
    with pytest.raises(DataError, match="already exists and its .* is gone or changed"):
        fetch(name, home, None)


@pytest.mark.parametrize("name", ["blood", "scenes"])
@pytest.mark.parametrize("wrong", ["pixels", "words"])
def test_an_origin_with_other_pixels_is_refused_and_nothing_is_kept(
    name: str, wrong: str, home: Path, web: str, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = recoded_origin(name, mirror, monkeypatch)
    monkeypatch.setitem(PAIRS, name, dataclasses.replace(PAIRS[name], urls=dict.fromkeys(PAIRS[name].urls, web)))
    changed = sorted((deep / PAIRS[name].target).iterdir())[0]
    if wrong == "pixels":
        Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(changed)
    else:
        changed.write_text("not found")

    message = r"SHA-256 is .*other pixels or bytes.*give '--mirror'" if wrong == "pixels" else "not an image"
    with pytest.raises(DataError, match=message):
        fetch(name, home, None)

    assert not (home / "data" / "raw" / name).exists()
    assert not list((home / ".isthmus").rglob(changed.stem.partition(" ")[0] + "/1.png"))


@pytest.mark.parametrize("name", ["blood", "scenes"])
def test_without_a_network_every_files_pair_says_so(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = dict.fromkeys(PAIRS[name].urls, "http://127.0.0.1:9")
    monkeypatch.setitem(PAIRS, name, dataclasses.replace(PAIRS[name], urls=nowhere))
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0))

    with pytest.raises(DataError, match=r"cannot be reached .*give '--mirror'"):
        fetch(name, home, None)

    assert not (home / "data").exists()
