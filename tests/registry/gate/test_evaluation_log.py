import pandas as pd
import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.gate.evaluation_log import Choice, ask, refuse

FIRST = Choice("c1", ["w1"], ["w1", "w2"])
RUNNER_UP = Choice("c2", ["w2"], ["w2", "w3"])  # of a pool that the refused one's method was taken out of
TRAINED_AGAIN = Choice("c4", ["w4"], ["w4", "w5"])
HALF_OF_IT_NEW = Choice("c5", ["w2", "w6"], ["w2", "w6"])  # the mean of one that was in the pool and one that was not


def images(labelled: int = 3, sha256: str = "a") -> pd.DataFrame:
    frame = pd.DataFrame({"image_id": ["0", "1", "2", "3"], "sha256": sha256, "part": "", "domain": "line_b"})
    label = pd.array([0] * labelled + [None] * (4 - labelled), dtype="Int32")
    return frame.assign(role="target", label=label)


def test_a_choice_is_counted_once_however_often_it_is_scored(tmp_path):
    first = ask(tmp_path, "demo", images(), FIRST, "1")
    again = ask(tmp_path, "demo", images(), FIRST, "1")
    other = ask(tmp_path, "demo", images(), TRAINED_AGAIN, "2")

    assert first == again == {"choices": 1, "labelled": 3, "runner_up_of": ""}
    assert other["choices"] == 2
    assert len((tmp_path / ".isthmus/acceptance/demo.jsonl").read_text().splitlines()) == 2


def test_after_a_refusal_the_runner_up_is_not_asked_but_what_was_trained_again_is(tmp_path):
    ask(tmp_path, "demo", images(), FIRST, "1")
    refuse(tmp_path, "demo", FIRST)
    refuse(tmp_path, "demo", FIRST)

    assert ask(tmp_path, "demo", images(), RUNNER_UP, "2") == {"choices": 1, "labelled": 3, "runner_up_of": "1"}
    assert ask(tmp_path, "demo", images(), TRAINED_AGAIN, "3")["runner_up_of"] == ""
    assert ask(tmp_path, "demo", images(), HALF_OF_IT_NEW, "3")["runner_up_of"] == "1"
    assert ask(tmp_path, "demo", images(), FIRST, "1")["runner_up_of"] == ""
    record = (tmp_path / ".isthmus/acceptance/demo.jsonl").read_text()
    assert record.count("refused") == 1
    assert "c2" not in record


def test_a_fresh_sample_knows_nothing_of_an_older_ones_refusals(tmp_path):
    ask(tmp_path, "demo", images(), FIRST, "1")
    refuse(tmp_path, "demo", FIRST)

    assert ask(tmp_path, "demo", images(sha256="b"), RUNNER_UP, "2") == {
        "choices": 1, "labelled": 3, "runner_up_of": ""
    }  # fmt: skip


def test_without_labels_nothing_is_asked_and_nothing_recorded(tmp_path):
    assert ask(tmp_path, "demo", images(labelled=0), FIRST, "1") == {"choices": 0, "labelled": 0, "runner_up_of": ""}
    refuse(tmp_path, "demo", FIRST)
    assert not (tmp_path / ".isthmus").exists()


def test_a_broken_record_is_an_error_and_not_a_fresh_start(tmp_path):
    ask(tmp_path, "demo", images(), FIRST, "1")
    path = tmp_path / ".isthmus/acceptance/demo.jsonl"
    path.write_text(path.read_text()[:20])

    with pytest.raises(StoreError, match=r"demo.jsonl: the record of evaluations on the labelled sample is damaged"):
        ask(tmp_path, "demo", images(), FIRST, "1")
