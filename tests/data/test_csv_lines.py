from pathlib import Path

import pytest

from isthmus.core.errors import DataError
from isthmus.data.csv_lines import read_csv


def write(folder: Path, text: str | bytes) -> Path:
    table = folder / "images.csv"
    table.write_bytes(text.encode() if isinstance(text, str) else text)
    return table


def test_records_come_with_the_number_of_their_first_line(tmp_path: Path) -> None:
    columns, lines = read_csv(
        write(tmp_path, '\ufeffpath , label\r\na.png,"x, y"\r\n\r\n"b\nc.png","say ""so"""\r\nd.png,z,\r\n')
    )

    assert columns == ["path", "label"]
    assert [(line.number, *line.cells.values()) for line in lines] == [
        (2, "a.png", "x, y"),
        (4, "b\nc.png", 'say "so"'),
        (6, "d.png", "z"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path,label\na,x\n"b,x\nc,x\n', r"line 3: a field begins with a quote that is not closed"),
        ('path,label\na,"x\nb,y"\nc"\n', r"line 4: 1 fields where the header has 2"),
        ('path,label\na,x\nb,"x"y\nc,x\n', r"line 3: a field begins with a quote"),
        ('path,label\n"a,x\nb,x\nc"\n', r"line 2: a field begins with a quote .*\(it runs to line 4\)"),
        ("path,label\na,x\nb\n", r"line 3: 1 fields where the header has 2"),
        ("path,label\na,x,y\n", r"line 2: 3 fields where the header has 2"),
        ("path,label,label\na,x,y\n", r"column label appears twice\. Rename or remove one"),
        ("path;label\na;x\n", r"fields are separated by ';'\. Save it as 'CSV UTF-8', with ','"),
        ("path\tlabel\na\tx\n", r"fields are separated by tabs"),
        ("path|label\na|x\n", r"fields are separated by '\|'"),
        ("sep=;\npath;label\na;x\n", r"fields are separated by ';'"),
        ("path,label\na,x\nb,Käse\n".encode("latin-1"), r"line 3: is not UTF-8 \(byte 0xe4\).*iconv -f WINDOWS-1252"),
        ("path,label\na,x\n".encode("utf-16"), r"is UTF-16, as Excel's 'Unicode text'"),
    ],
)
def test_what_would_lose_or_shift_a_cell_is_refused_with_its_line(
    text: str | bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"images\.csv: {message}"):
        read_csv(write(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        "path;label\na;Käse\n".encode("cp1252"),
        "path\tlabel\na\tKäse\n".encode("utf-16"),
        "sep=;\r\npath;label\r\na;Käse\r\n".encode("utf-8-sig"),
        "path|label\na|Käse\n",
    ],
)
def test_a_table_of_any_program_is_read_where_it_is_only_looked_at(text: str | bytes, tmp_path: Path) -> None:
    assert read_csv(write(tmp_path, text), any_dialect=True)[1][0].cells == {"path": "a", "label": "Käse"}


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images\.csv: cannot be read \(No such file or directory\)"):
        read_csv(tmp_path / "images.csv")
