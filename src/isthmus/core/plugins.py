"""The folder is the registry: a name in `params.yaml` is the name of a module in a plugin folder."""

import difflib
import importlib
import importlib.metadata
import pkgutil
import re
from types import ModuleType

from isthmus.core.errors import ConfigError


def names(folder: str) -> list[str]:
    """Returns the plugin names in a folder such as `adapt.methods`, sorted.

    >>> "dann" in names("adapt.methods")
    True
    """
    package = importlib.import_module(f"isthmus.{folder}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def load(folder: str, name: str) -> ModuleType:
    """Imports one plugin.

    Raises:
        ConfigError: there is no such plugin, or a package that it needs is not installed.
    """
    if name not in names(folder):
        raise ConfigError(
            f"no module '{name}' in isthmus.{folder}.{did_you_mean(name, names(folder))}"
            f" There are: {', '.join(names(folder))}"
        )
    module = f"isthmus.{folder}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "isthmus"):
            raise
        raise ConfigError(f"{module} needs '{missing}': {install_command_of(missing)}") from error


def did_you_mean(got: str, allowed: list[str]) -> str:
    """Returns a hint for a misspelt name, empty when nothing is near.

    >>> did_you_mean("coraal", ["coral", "dann"])
    " Did you mean 'coral'?"
    """
    near = difflib.get_close_matches(got, allowed, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""


def install_command(extra: str) -> str:
    """Returns how to install one of the extras in pyproject.toml; Isthmus is on no package index.

    >>> install_command("medical")
    "in the clone of Isthmus, make install-dev (all extras) or pip install -e '.[medical]'"
    """
    return f"in the clone of Isthmus, make install-dev (all extras) or pip install -e '.[{extra}]'"


def install_command_of(module: str) -> str:
    """Returns what to run for a module that cannot be imported: its extra's command, or that of its own package."""
    distributions = importlib.metadata.packages_distributions().get(module, [module])
    for requirement in importlib.metadata.requires("isthmus") or []:
        extra = re.search(r"extra == ['\"]([a-z_]+)['\"]", requirement)
        if extra and _normal(re.split(r"[<>=!~ ;\[]", requirement)[0]) in map(_normal, distributions):
            return install_command(extra.group(1))
    return f"pip install {distributions[0]}"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
