import re
import sys
import tomllib

import pytest

from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.core.plugins import install_command, install_command_of
from tests.repo import REPOSITORY

EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = {path: path.read_text() for path in sorted((REPOSITORY / "src").rglob("*.py"))}


def test_the_folder_is_the_registry() -> None:
    assert {"coral", "dann", "mmd", "source_only", "zscore"} <= set(plugins.names("adapt.methods"))


def test_a_plugin_whose_package_is_missing_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.delitem(sys.modules, "isthmus.adapt.methods.coral", raising=False)
    real = plugins.importlib.import_module

    def missing(name: str) -> object:
        if name == "isthmus.adapt.methods.coral":
            raise ModuleNotFoundError("No module named 'mlxtend'", name="mlxtend")
        return real(name)

    monkeypatch.setattr(plugins.importlib, "import_module", missing)

    with pytest.raises(
        ConfigError, match=r"isthmus.adapt.methods.coral needs 'mlxtend': .*pip install -e '\.\[digits\]'"
    ):
        plugins.load("adapt.methods", "coral")


@pytest.mark.parametrize(
    ("module", "extra"), [("mlxtend", "digits"), ("psycopg2", "postgres"), ("pytorch_adapt", "adapt")]
)
def test_a_module_of_an_extra_is_installed_with_that_extra(module: str, extra: str) -> None:
    assert install_command_of(module) == install_command(extra)


def test_a_module_of_no_extra_is_installed_by_its_own_name() -> None:
    assert install_command_of("no_such_module") == "pip install no_such_module"


def test_every_extra_that_a_message_names_is_one_of_pyproject() -> None:
    text = "\n".join(SOURCES.values())
    named = set(re.findall(r"install_command\(['\"](\w+)['\"]\)", text))
    named |= set(re.findall(r"require\(['\"]\w+['\"], ['\"](\w+)['\"]\)", text))

    assert {"medical", "postgres", "devices", "weights", "remote_sensing"} <= named <= set(EXTRAS)


def test_no_message_installs_isthmus_from_a_package_index() -> None:
    assert [path.name for path, text in SOURCES.items() if re.search(r"pip install ['\"]?isthmus", text)] == []
