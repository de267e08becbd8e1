import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.data.audit.summary import Bad, check_bad_share, contradictions


def test_the_same_bytes_under_two_source_classes_name_both() -> None:
    frame = pd.DataFrame(
        {
            "image_id": ["1", "1", "2", "3", "3"],
            "domain": ["a", "a", "a", "b", "b"],
            "path": ["a/pit/x", "a/good/y", "a/pit/z", "b/pit/v", "b/good/w"],
            "class_name": ["pit", "good", "pit", "pit", "good"],
            "mask_sha256": "",
            "second_sha256": "",
        }
    )

    bad = contradictions(frame, "b")

    reason = "identical files are in 2 classes: good, pit"
    assert bad == [Bad("a/good/y", "a", reason), Bad("a/pit/x", "a", reason)]


def test_too_many_bad_files_stop_the_run_with_the_first_of_them() -> None:
    bad = [Bad(f"a/{i:02d}.png", "a", "file is empty (0 bytes)") for i in range(25)]

    with pytest.raises(
        DataError,
        match=r"25 of 100 files cannot be used \(25\.0%\); 'ingest\.max_bad_share' in params\.yaml allows 20\.0%:\n"
        r"  a/00\.png: file is empty \(0 bytes\)\n(.*\n){19}  \.\.\. and 5 more\nRepair or remove them",
    ):
        check_bad_share(bad, 100, 0.2)


def test_a_few_bad_files_are_allowed() -> None:
    check_bad_share([Bad("a", "a", "b")], 5, 0.2)
