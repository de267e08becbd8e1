"""`isthmus label`: the list that it writes, and the answers that it takes, in a project with DVC."""

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from isthmus import cli
from isthmus.core.errors import ConfigError, DataError, StoreError
from isthmus.core.files import read_json
from isthmus.data.labels.given import drawing_order, pool_of, read_given
from isthmus.data.manifest import MANIFEST, read_table, write_table
from isthmus.label import take, write_list
from tests.report_files import write_report_files

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished scenario `demo` without target labels, in a repository with DVC."""
    folder = tmp_path_factory.mktemp("made") / "project"
    out = write_report_files(folder.parent / "report", {"source_only": 0.5, "coral": 0.85}, target_labels="none").root
    shutil.copytree(out, folder / "out" / "demo")
    shutil.move(folder / "out" / "demo" / "params.yaml", folder / "params.yaml")
    with (folder / "params.yaml").open("a") as params:
        params.write("pairs: {digits: {}}\n")  # dvc.yaml names the section
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "data" / "labels").mkdir(parents=True)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    subprocess.run(["git", "config", "user.name", "Ann Other"], cwd=folder, check=True)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "project"))


def listed(project: Path) -> list[dict[str, str]]:
    with (project / "out/demo/label/label_first.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def answered(project: Path, rows: list[dict[str, str]], label: str = "dent") -> Path:
    path = project / "answers.csv"
    path.write_text("image_id,class\n" + "".join(f"{row['image_id']},{label}\n" for row in rows))
    return path


def pool(project: Path) -> list[str]:
    return pool_of(read_table(project / "out/demo/manifest.parquet", MANIFEST), "line_b")


def test_the_list_has_images_to_measure_in_the_order_of_the_draw_and_some_of_each_predicted_class_to_train_with(
    project: Path,
) -> None:
    written = write_list(project, "demo", 12, 3)

    rows = listed(project)
    drawn = [row["image_id"] for row in rows if row["purpose"] == "measure"]
    learned = [row["image_id"] for row in rows if row["purpose"] == "train"]
    assert drawn == drawing_order(pool(project))[:12]
    table = pd.read_parquet(project / "out/demo/predictions.parquet").set_index("image_id")["predicted"]
    group = read_table(project / "out/demo/manifest.parquet", MANIFEST).set_index("image_id")["group"]
    assert sorted(table[learned]) == [0] * 3 + [1] * 3 + [2] * 3
    assert set(learned) <= set(pool(project)) and not set(group[learned]) & set(group[drawn])
    apart = [i for i in drawing_order(pool(project))[12:] if group[i] not in set(group[drawn])]
    wanted = {i for number in range(3) for i in [i for i in apart if table[i] == number][:3]}
    assert learned == [i for i in apart if i in wanted]  # their order does not give the predicted class away
    assert {row["class"] for row in rows} == {""} and rows[0]["path"].startswith("line_b/")
    assert "predicted" not in rows[0]  # what the model says would lead whoever labels
    assert written.counts == {"measure": 12, "train": 9} and written.missing == ""
    page = (project / "out/demo/label/label.html").read_text()
    assert page.count("<img") == 21 and page.count("data:image") >= 21
    assert "http" not in page.replace("http-equiv", "")


def test_before_the_run_has_ended_there_is_a_random_part_and_a_word_on_the_rest(project: Path) -> None:
    for name in ("prepared", "predictions.parquet"):
        place = project / "out/demo" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    written = write_list(project, "demo", 5, 5)

    assert written.counts == {"measure": 5, "train": 0}
    assert "no images to train with: they are drawn by predicted class. Run 'dvc repro report@demo'" in written.missing
    assert "no thumbnails: the images are not prepared. Run 'dvc repro prepare@demo'" in written.missing
    assert len(listed(project)) == 5


def test_where_every_group_has_a_measured_image_there_is_none_to_train_with(project: Path) -> None:
    path = project / "out/demo/manifest.parquet"
    write_table(path, read_table(path, MANIFEST).assign(group="one patient"), MANIFEST)

    written = write_list(project, "demo", 1, 5)

    assert written.counts == {"measure": 1, "train": 0}
    assert (
        written.missing == "no images to train with: each group of the target has an image that is drawn for measuring"
    )


def test_paths_of_medical_images_are_on_neither_list_nor_page(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("kind: natural", "kind: medical"))

    write_list(project, "demo", 5, 0)

    assert "path" not in listed(project)[0]
    assert "line_b/" not in (project / "out/demo/label/label.html").read_text()


def test_a_class_with_markup_in_its_name_stays_text_on_the_page(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("- crack", "- <script>x"))

    write_list(project, "demo", 2, 0)

    assert "<option>&lt;script&gt;x</option>" in (project / "out/demo/label/label.html").read_text()


@pytest.mark.slow
def test_answers_are_kept_under_dvc_each_with_its_one_purpose_and_not_asked_for_again(project: Path) -> None:
    write_list(project, "demo", 6, 2)
    rows = listed(project)
    own = next(i for i in drawing_order(pool(project))[::-1] if i not in {row["image_id"] for row in rows})

    taken = take(project, "demo", answered(project, [*rows[:4], rows[-1], {"image_id": own}]))

    kept = read_given(project / "data/labels/demo.csv")
    assert taken.new == 6 and taken.counts == {"measure": 4, "train": 2}
    assert [kept[row["image_id"]].purpose for row in rows[:4]] == ["measure"] * 4
    assert kept[rows[-1]["image_id"]].purpose == kept[own].purpose == "train"
    assert {(entry.who, entry.label) for entry in kept.values()} == {("Ann Other", "dent")}
    assert (project / "data/labels/demo.csv.dvc").is_file()
    assert "line_b" not in (project / "data/labels/demo.csv").read_text()  # no path

    before = (project / "data/labels/demo.csv").read_bytes()
    assert take(project, "demo", answered(project, rows[:4]), by="Bob").new == 0
    assert (project / "data/labels/demo.csv").read_bytes() == before

    with pytest.raises(DataError, match="'dent' was taken of Ann Other on .*now it is 'crack'"):
        take(project, "demo", answered(project, rows[:1], "crack"))
    assert (project / "data/labels/demo.csv").read_bytes() == before
    assert take(project, "demo", answered(project, rows[:1], "crack"), by="Bob", replace=True).new == 1
    assert read_given(project / "data/labels/demo.csv")[rows[0]["image_id"]][1:4] == ("crack", "measure", "Bob")

    written = write_list(project, "demo", 8, 2)
    again = [row["image_id"] for row in listed(project)]
    # two of six are open, two more are drawn; of "dent" there are two labels to train with already
    assert written.counts == {"measure": 4, "train": 4}
    assert again[:4] == [rows[4]["image_id"], rows[5]["image_id"], *drawing_order(pool(project))[6:8]]
    assert not set(again) & set(kept)


@pytest.mark.slow
def test_an_image_that_was_trained_on_is_never_drawn_for_measuring(project: Path) -> None:
    order = drawing_order(pool(project))
    write_list(project, "demo", 2, 0)
    take(project, "demo", answered(project, [{"image_id": order[3]}]))

    write_list(project, "demo", 5, 0)

    assert [row["image_id"] for row in listed(project)] == [order[0], order[1], order[2], order[4]]
    assert order[3] not in read_json(project / "out/demo/label/asked.json")


def test_what_was_drawn_once_stays_drawn_when_fewer_are_asked_for(project: Path) -> None:
    write_list(project, "demo", 9, 0)

    write_list(project, "demo", 3, 20)

    rows = listed(project)
    assert [row["image_id"] for row in rows if row["purpose"] == "measure"] == drawing_order(pool(project))[:9]


def test_where_dvc_refuses_everything_is_as_before(project: Path) -> None:
    write_list(project, "demo", 3, 0)
    (project / ".dvc" / "config").write_text("[core]\n    no such setting\n")

    with pytest.raises(StoreError, match="'dvc add' failed in .*no such setting"):
        take(project, "demo", answered(project, listed(project)))

    assert list((project / "data/labels").iterdir()) == []


def test_a_list_with_answers_that_were_not_taken_is_not_written_over(project: Path) -> None:
    write_list(project, "demo", 3, 0)
    path = project / "out/demo/label/label_first.csv"
    path.write_text(path.read_text().replace(",measure,\n", ",measure,dent\n", 1))

    with pytest.raises(DataError, match="holds 1 answers that were not taken .first: line 2.*--take .*label_first.csv"):
        write_list(project, "demo", 3, 0)

    assert listed(project)[0]["class"] == "dent"


def test_without_a_list_no_answer_is_taken(project: Path) -> None:
    first = {"image_id": pool(project)[0]}

    with pytest.raises(DataError, match="not known which images were drawn at random. Run 'isthmus label demo' first"):
        take(project, "demo", answered(project, [first]))


def test_what_cannot_be_asked_for_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--random -1: allowed are 0 and more"):
        write_list(project, "demo", -1, 0)
    with pytest.raises(ConfigError, match="--per-class -2: allowed are 0 and more"):
        write_list(project, "demo", 1, -2)
    with pytest.raises(ConfigError, match="no scenario 'dem'. Did you mean 'demo'"):
        write_list(project, "dem")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    subprocess.run(["git", "config", "--unset", "user.name"], cwd=project, check=True)
    with pytest.raises(ConfigError, match="who gave these answers\\? git has no user.name. Name the person with --by"):
        take(project, "demo", project / "answers.csv")
    (project / "out/demo/manifest.parquet").unlink()
    with pytest.raises(DataError, match="manifest.parquet: no such file. Run 'dvc repro ingest@demo' first"):
        write_list(project, "demo")


@pytest.mark.slow
def test_the_command_writes_the_list_and_takes_it_back_filled_in(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    for words in (["--random", "3", "--per-class", "0"], ["--take", "out/demo/label/label_first.csv", "--by", "Bob"]):
        monkeypatch.setattr(sys, "argv", ["isthmus", "label", "demo", *words])
        with pytest.raises(SystemExit) as end:
            cli.app()
        assert end.value.code == 0
        path = project / "out/demo/label/label_first.csv"
        path.write_text(path.read_text().replace(",measure,\n", ",measure,dent\n"))

    told = capsys.readouterr().out
    assert "label.html: 3 to measure, 0 to train with" in told
    assert "demo.csv: 3 new; in all 3 to measure, 0 to train with. Next: isthmus run demo" in told


def test_images_with_masks_have_no_class_to_ask_for(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("kind: natural", "kind: natural\n    task: segmentation"))

    for call in (lambda: write_list(project, "demo"), lambda: take(project, "demo", project / "answers", by="Ann")):
        with pytest.raises(
            ConfigError, match=r"'demo' is of task segmentation: its images have no class to ask for. Draw masks of"
        ):
            call()
