"""`isthmus check --plugins`: what a project's own plugins must hold, and the tutorial that says so."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.contracts import BASES
from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.core.plugins import MEMBERS
from isthmus.core.project import work_in
from isthmus.plugin_checks import check_plugins
from tests.repo import REPOSITORY

TUTORIAL = (REPOSITORY / "docs" / "plugins.md").read_text()
METHOD = re.search(r"```python\n(.*?)```", TUTORIAL, re.DOTALL).group(1)  # type: ignore[union-attr]
NAME = "mean_alignment"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with the tutorial's method."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, f"adapt/methods/{NAME}.py", METHOD)
    work_in(tmp_path)
    yield tmp_path
    plugins.use(None)
    for name in [name for name in sys.modules if name.rpartition(".")[2] in (NAME, "own", "_own")]:
        del sys.modules[name]


def write(project: Path, name: str, text: str) -> None:
    (project / "plugins" / name).parent.mkdir(parents=True, exist_ok=True)
    (project / "plugins" / name).write_text(text)


def edited(project: Path, old: str, new: str) -> None:
    assert old in METHOD
    write(project, f"adapt/methods/{NAME}.py", METHOD.replace(old, new))


def test_the_method_of_the_tutorial_keeps_the_contract_in_forty_lines(project: Path) -> None:
    assert check_plugins(project) == [f"plugins/adapt/methods/{NAME}.py"]
    assert len(METHOD.splitlines()) <= 40


def test_a_project_without_plugins_is_in_order(tmp_path: Path) -> None:
    assert check_plugins(tmp_path) == []


def test_every_plugin_folder_has_a_base_class_for_each_member_and_stands_in_the_tutorial() -> None:
    assert {folder: tuple(bases) for folder, bases in BASES.items()} == MEMBERS
    assert [folder for folder in MEMBERS if f"`{folder.replace('.', '/')}`" not in TUTORIAL] == []


@pytest.mark.parametrize(
    ("old", "new", "refused"),
    [
        (METHOD.partition("\n")[0], "", "has no docstring: its first line is what 'isthmus list' shows"),
        (
            "class Adaptation(Method)",
            "class Adaptation",
            r"Adaptation must be a class Adaptation\(Method\), with Method",
        ),
        ("def losses(", "def loses(", "Adaptation lacks losses: see Method of isthmus.adapt"),
        ("source_loss(source.logits, batch)", "source.logits", "losses.. must return at least one named loss, each a"),
        ("return {", "return {} and {", "losses.. must return at least one named loss"),
        ("square().sum()", "square().log().sum() * 0", "losses.. on constant features, or their gradients, are not"),
        ("square().sum()", "sum() / 0", "losses.. on a batch with few source rows are not finite"),
        ("        distance", "        raise KeyError(2)\n        distance", "losses.. on a batch with .*: KeyError: 2"),
        (
            "source_loss(source.logits, batch)",
            "__import__('torch').nn.functional.cross_entropy(source.logits, batch.labels)",
            "losses.. ignore batch.soft_labels: use source_loss",
        ),
        (
            "source_loss(source.logits, batch)",
            "__import__('torch').nn.functional.cross_entropy(source.logits, batch.label_shares(3))",
            "losses.. ignore batch.class_weights: use source_loss",
        ),
        (
            '"source": source_loss(source.logits, batch),',
            "",
            "have no gradient for the head: keep a supervised loss of the source",
        ),
    ],
)
def test_a_method_that_breaks_the_contract_is_refused_in_words(project: Path, old: str, new: str, refused: str) -> None:
    edited(project, old, new)

    with pytest.raises(ConfigError, match=rf"{NAME}.py: .*{refused}"):
        check_plugins(project)


def test_all_problems_of_all_plugins_are_told_together(project: Path) -> None:
    (project / "mylib").mkdir()
    write(project, "adapt/method/own.py", "")
    write(project, "adapt/methods/own.py", "import mylib.layers\nfrom . import _own\n")
    write(project, "data/readers/own.py", '"""Reads."""\nfrom isthmus.data.readers.image import FileReader\n')
    write(project, "gates/rules/absolute_floor.py", "")

    with pytest.raises(ConfigError) as error:
        check_plugins(project)

    told = str(error.value)
    assert re.search(r"own.py: 'adapt/method' is no plugin folder. Did you mean 'adapt/methods'\?", told)
    assert re.search(r"own.py: line 1: imports 'mylib' of the project, which is in no fingerprint", told)
    assert re.search(
        r"own.py: line 2: a relative import. Write it in full: from isthmus.adapt.methods._NAME import", told
    )
    assert re.search(r"own.py: claims .*\.png.*, which the reader 'image' has", told)
    assert re.search(r"absolute_floor.py: the name 'absolute_floor' is taken by a plugin that comes with Isthmus", told)


KIND = '''"""A kind."""
from isthmus.data.kinds import natural
class Config(natural.Config):
    """Options."""
    def build(self):
        return Own(self.image_size, self.channels)
class Own(natural.Natural):
    """As natural."""
    def fit(self, images):
        return {}
    def learns_from(self, dtype, channels):
        return False
'''


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ("", ""),
        ("    def fit(self, images):\n        return {1: 2}\n", "fit.. must return JSON types"),
        (
            "    def fit(self, images):\n        return {'n': len(list(images))}\n",
            "fit.. learns from images that",
        ),
        ("    def __reduce__(self):\n        return (dict, ())\n", "cannot travel to a worker process"),
        (
            "    def prepare(self, image, fitted):\n        return image.pixels\n",
            r"prepare.. must return one shape \[image",
        ),
        (
            "    def prepare(self, image, fitted):\n        import numpy\n"
            "        return numpy.random.default_rng().integers(0, 255, (28, 28, 3)).astype('uint8')\n",
            "prepare.. must return the same bytes for the same image",
        ),
        ("    def box(self, image):\n        return (5, 5, 5, 5)\n", "box.. must return top, left, bottom, right"),
    ],
)
def test_a_kind_that_breaks_the_contract_is_refused_in_words(tmp_path: Path, more: str, refused: str) -> None:
    write(tmp_path, "data/kinds/own.py", KIND + more)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        work_in(tmp_path)
        sys.modules.pop("isthmus.data.kinds.own", None)
        try:
            if refused:
                with pytest.raises(ConfigError, match=rf"own.py: {refused}"):
                    check_plugins(tmp_path)
            else:
                assert check_plugins(tmp_path) == ["plugins/data/kinds/own.py"]
        finally:
            plugins.use(None)
