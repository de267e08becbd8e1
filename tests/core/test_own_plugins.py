"""A project's own plugins: found, hashed and refused like those that are shipped."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.core import plugins
from isthmus.core.code.fingerprint import Code
from isthmus.core.errors import ConfigError
from isthmus.data.workers import in_order
from isthmus.registry.publish.packaging import own_packages, write_code

KIND = '''"""Natural images under another name."""
import yaml
from isthmus.data.kinds import natural
from isthmus.data.kinds._sizes import SIDE
class Config(natural.Config):
    """No options more."""
    def build(self):
        return Mine(self.image_size, self.channels)
class Mine(natural.Natural):
    """The same."""
    def __call__(self, number):
        return number + SIDE
'''


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Path]:
    """The plugin folder of a project, in use: the kind `mine`, which shares a size with others."""
    for folder in ("data/kinds", "adapt/methods"):
        (tmp_path / "plugins" / folder).mkdir(parents=True)
    (tmp_path / "plugins/data/kinds/mine.py").write_text(KIND)
    (tmp_path / "plugins/data/kinds/_sizes.py").write_text("SIDE = 28\n")
    plugins.use(tmp_path / "plugins")
    yield tmp_path / "plugins"
    plugins.use(None)
    for name in [name for name in sys.modules if name.rpartition(".")[2] in ("mine", "_sizes", "coral_2")]:
        del sys.modules[name]


def method(own: Path, name: str, text: str) -> None:
    (own / "adapt" / "methods" / f"{name}.py").write_text(text)


def test_an_own_plugin_is_found_and_loaded_like_a_shipped_one_and_forgotten_with_its_project(own: Path) -> None:
    assert plugins.own_names("data.kinds") == ["mine"]
    assert {"mine", "natural"} <= set(plugins.names("data.kinds")) and "_sizes" not in plugins.names("data.kinds")
    assert plugins.load("data.kinds", "mine").Config().build().channels == 3

    plugins.use(own.parent / "another")

    with pytest.raises(ConfigError, match=r"no module 'mine' in isthmus.data.kinds\. "):
        plugins.load("data.kinds", "mine")


def test_a_missing_plugin_is_said_to_be_looked_for_in_both_places(own: Path) -> None:
    with pytest.raises(ConfigError, match=rf"no module 'mina' in isthmus.data.kinds or {own}/data/kinds. Did you mean"):
        plugins.load("data.kinds", "mina")


@pytest.mark.parametrize(
    ("name", "text", "refused"),
    [
        ("coral", "", "coral.py: the name 'coral' is taken by a plugin that comes with Isthmus. Rename the file"),
        ("My-Own", "", "My-Own.py: the name 'My-Own' cannot be used. Rename the file to lower-case letters"),
        ("mine", "def f(:\n", r"mine.py: cannot be imported: SyntaxError: invalid syntax .mine.py, line 1.\. Correct"),
        ("mine", "1 / 0", "mine.py: cannot be imported: ZeroDivisionError: division by zero. Correct the file"),
        ("mine", "import isthmus.nowhere", "mine.py: cannot be imported: ModuleNotFoundError: No module named"),
        ("mine", "import no_such_package", "mine.py needs 'no_such_package': pip install no_such_package"),
        ("mine", "class Config: ...", "mine.py: has no class Adaptation, which a plugin of adapt.methods must have"),
        ("mine", "", "mine.py: has no class Config and no class Adaptation, which"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_refused_by_its_file(own: Path, name: str, text: str, refused: str) -> None:
    method(own, name, text)

    with pytest.raises(ConfigError, match=refused):
        plugins.load("adapt.methods", name)


def test_the_fingerprint_of_a_stage_changes_with_its_own_plugin_and_what_that_shares_and_no_other(own: Path) -> None:
    before = Code().fingerprints()
    assert "prepare/mine" in before

    (own / "data/kinds/_sizes.py").write_text("SIDE = 29  # edited\n")

    after = Code().fingerprints()
    assert {name for name in before if before[name] != after[name]} == {"prepare/mine"}
    (own / "data/kinds/_sizes.py").write_text("SIDE = 28\n")
    (own / "data/kinds/mine.py").write_text(KIND.replace('"""The same."""', '"""Another docstring."""'))
    assert Code().fingerprints() == before


@pytest.mark.slow
def test_an_own_plugin_travels_to_worker_processes(own: Path) -> None:
    mine = plugins.load("data.kinds", "mine").Config().build()

    assert list(in_order(mine, range(300), 2)) == list(range(28, 328))


@pytest.mark.slow
def test_the_code_of_a_model_has_own_plugins_in_their_places_and_needs_no_project(own: Path, tmp_path: Path) -> None:
    mine = plugins.load("data.kinds", "mine").Config().build()

    folder = write_code(tmp_path / "code" / "isthmus")

    (tmp_path / "mine.pkl").write_bytes(pickle.dumps(mine))
    (own / "data/kinds/mine.py").unlink()
    script = (
        f"import sys; sys.path.insert(0, {str(folder.parent)!r}); import pickle, isthmus;"
        f"print(isthmus.__file__, pickle.load(open({str(tmp_path / 'mine.pkl')!r}, 'rb'))(1))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"{folder / '__init__.py'} 29\n", done.stderr
    assert own_packages() == []
    method(own, "coral_2", "import yaml\nfrom PIL import Image\nimport json, isthmus.adapt\n")
    assert own_packages() == ["pillow", "pyyaml"]
