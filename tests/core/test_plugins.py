import sys

import pytest

from isthmus.core import plugins
from isthmus.core.errors import ConfigError


def test_the_folder_is_the_registry() -> None:
    assert {"coral", "dann", "mmd", "source_only", "zscore"} <= set(plugins.names("adapt.methods"))


def test_a_plugin_whose_package_is_missing_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "isthmus.adapt.methods.coral", raising=False)
    real = plugins.importlib.import_module

    def missing(name: str) -> object:
        if name == "isthmus.adapt.methods.coral":
            raise ModuleNotFoundError("No module named 'onnx'", name="onnx")
        return real(name)

    monkeypatch.setattr(plugins.importlib, "import_module", missing)

    with pytest.raises(
        ConfigError, match=r"isthmus.adapt.methods.coral needs 'onnx': pip install 'isthmus\[weights\]'"
    ):
        plugins.load("adapt.methods", "coral")
