from pathlib import Path

from tests.soak.reliability import rows_of, write_section


def test_a_campaign_replaces_its_own_section_and_no_other(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    write_section("Kills", "| old |", page)
    write_section("Requests", "| kept |", page)
    write_section("Kills", "| new |", page)

    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Reliability\n")
    assert "old" not in text
    assert (
        text.index("## Kills\n\n| new |") < text.index("<!-- end of Kills -->") < text.index("## Requests\n\n| kept |")
    )
    assert text.count("## ") == 2


def test_the_rows_of_what_was_not_run_again_can_be_kept(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    assert rows_of("Kills", page) == {}
    write_section("Kills", "How.\n\n| killed | right |\n| --- | ---: |\n| publish | 1 |\n| score | 2 |", page)
    write_section("Requests", "| request |\n| --- |\n| other |", page)

    assert rows_of("Kills", page) == {"publish": "| publish | 1 |", "score": "| score | 2 |"}
