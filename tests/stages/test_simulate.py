from pathlib import Path

import pytest

from isthmus.core.config import load_params
from isthmus.data.pairs import Pair, PairConfig
from isthmus.stages import simulate
from isthmus.stages._cli import stage


class Tiny(Pair):
    def write(self, folder: Path, seed: int) -> None:
        (folder / "a" / "good").mkdir(parents=True)
        (folder / "a" / "good" / "1.txt").write_text(str(seed))


class TinyConfig(PairConfig):
    def build(self) -> Pair:
        return Tiny()


def test_the_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "older.png").write_text("of an earlier run")

    simulate.run(simulate.Params(pair=TinyConfig(), seed=7), raw=raw)

    assert [p.relative_to(raw).as_posix() for p in raw.rglob("*") if p.is_file()] == ["a/good/1.txt"]


def test_params_find_the_pair_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("pairs: {industrial: {}}\nseed: 0\n")

    params = load_params(simulate.Params, tmp_path / "params.yaml", {"pair": "pairs.industrial"})

    assert type(params.pair).__module__ == "isthmus.data.pairs.industrial"


def test_an_unknown_pair_ends_in_one_message_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text("pairs: {industral: {}}\nseed: 0\n")
    arguments = ["--params", str(tmp_path / "params.yaml"), "--pair", "industral", "--raw", str(tmp_path / "raw")]

    with pytest.raises(SystemExit, match="2"):
        stage(simulate.run, arguments)

    assert "no module 'industral' in isthmus.data.pairs. Did you mean 'industrial'?" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()
