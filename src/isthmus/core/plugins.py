"""The folder is the registry: a name in `params.yaml` is the name of a module in a plugin folder.

A project has plugins of its own in `plugins/`, which has the same folders: `plugins/adapt/methods/NAME.py` is imported
as `isthmus.adapt.methods.NAME`. So names, fingerprints, worker processes and registered models know one kind of plugin.
Modules whose names begin with `_` are no plugins: what several of them share.
"""

import difflib
import importlib
import pkgutil
import re
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from isthmus.core.errors import ConfigError

# plugin folder -> what a module in it must have
MEMBERS = {
    "adapt.methods": ("Config", "Adaptation"),
    "data.kinds": ("Config",),
    "data.pairs": ("Config",),
    "data.readers": ("FileReader",),
    "data.tasks": ("Config",),
    "evaluation.guards": ("Guards",),
    "evaluation.tasks": ("Evaluation",),
    "evaluation.validators": ("Config",),
    "gates.rules": ("Config",),
    "models.backbones": ("Config",),
    "registry.model.answers": ("Answers",),
    "report.tasks": ("Report",),
}
OWN = "plugins"  # the folder in a project


class _Own(MetaPathFinder):
    """Finds a project's own plugins, after all other modules were looked for."""

    folder: Path | None = None

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        file = own_file(fullname)
        return spec_from_file_location(fullname, file) if file and file.is_file() else None


_own = _Own()


def use(folder: Path | None) -> None:
    """Makes a project's own plugins known from now on; None: the shipped ones alone."""
    _own.folder = folder.absolute() if folder is not None and folder.is_dir() else None
    if _own.folder and _own not in sys.meta_path:
        sys.meta_path.append(_own)
    elif _own.folder is None and _own in sys.meta_path:
        sys.meta_path.remove(_own)


def own_folder() -> Path | None:
    """Returns the folder of the project's own plugins, None where there is none."""
    return _own.folder


def own_file(module: str) -> Path | None:
    """Returns where a project keeps a module such as `isthmus.adapt.methods.NAME`; None for all other modules."""
    folder, _, name = module.removeprefix("isthmus.").rpartition(".")
    if _own.folder is None or folder not in MEMBERS or not module.startswith("isthmus."):
        return None
    return _own.folder.joinpath(*folder.split("."), f"{name}.py")


def own_names(folder: str) -> list[str]:
    """Returns the names of a project's own plugins in a folder such as `adapt.methods`, sorted."""
    return [file.stem for file in own_files(folder) if not file.stem.startswith("_")]


def own_files(folder: str) -> list[Path]:
    """Returns the modules in a project's folder such as `adapt.methods`, those that plugins share too, sorted."""
    return sorted(_own.folder.joinpath(*folder.split(".")).glob("*.py")) if _own.folder else []


def shipped_names(folder: str) -> list[str]:
    """Returns the names of the plugins that come with Isthmus, sorted."""
    package = importlib.import_module(f"isthmus.{folder}")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_"))


def names(folder: str) -> list[str]:
    """Returns the plugin names in a folder such as `adapt.methods`, sorted.

    Raises:
        ConfigError: one of the project's own has the name of a shipped one, or none that `params.yaml` can hold.

    >>> "dann" in names("adapt.methods")
    True
    """
    shipped, own = shipped_names(folder), own_names(folder)
    for name in own:
        file = own_file(f"isthmus.{folder}.{name}")
        if name in shipped:
            raise ConfigError(
                f"{file}: the name '{name}' is taken by a plugin that comes with Isthmus. Rename the file"
            )
        if not re.fullmatch("[a-z0-9_]+", name):
            raise ConfigError(
                f"{file}: the name '{name}' cannot be used. Rename the file to lower-case letters, digits and '_'"
            )
    return sorted([*shipped, *own])


def load(folder: str, name: str) -> ModuleType:
    """Imports one plugin.

    Raises:
        ConfigError: there is no such plugin, a package that it needs is not installed, or a project's own cannot be
            imported or lacks what its folder requires.
    """
    if name not in names(folder):
        raise ConfigError(
            f"no module '{name}' in isthmus.{folder}{_or_own(folder)}.{did_you_mean(name, names(folder))}"
            f" There are: {', '.join(names(folder))}"
        )
    module, own = f"isthmus.{folder}.{name}", name in own_names(folder)
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "isthmus"):
            if own:
                raise _broken(module, error) from error
            raise
        raise ConfigError(f"{own_file(module) or module} needs '{missing}': {install_command_of(missing)}") from error
    except Exception as error:
        if own:
            raise _broken(module, error) from error
        raise
    if own and (lacking := [member for member in MEMBERS[folder] if not hasattr(loaded, member)]):
        raise ConfigError(
            f"{own_file(module)}: has no class {' and no class '.join(lacking)}, which a plugin of {folder} must have."
            f" See the modules of isthmus.{folder}"
        )
    return loaded


def _or_own(folder: str) -> str:
    place = _own.folder.joinpath(*folder.split(".")) if _own.folder else None
    return f" or {place}" if place and place.is_dir() else ""


def _broken(module: str, error: Exception) -> ConfigError:
    return ConfigError(f"{own_file(module)}: cannot be imported: {type(error).__name__}: {error}. Correct the file")


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
    if (Path(__file__).parents[3] / "pyproject.toml").is_file():
        return f"in the clone of Isthmus, make install-dev (all extras) or pip install -e '.[{extra}]'"
    return f"pip install {' '.join(_requirements(extra))}"


def _requirements(extra: str) -> list[str]:
    """Returns what an extra of the installed package asks for, in quotes for a shell."""
    from importlib.metadata import requires  # here and below: it takes longer than all else of this file

    asked = (requirement.partition(";") for requirement in requires("isthmus") or [])
    return [f"'{what.strip()}'" for what, _, when in asked if re.search(rf"extra == ['\"]{extra}['\"]", when)]


def install_command_of(module: str) -> str:
    """Returns what to run for a module that cannot be imported: its extra's command, or that of its own package."""
    from importlib.metadata import packages_distributions, requires

    distributions = packages_distributions().get(module, [module])
    for requirement in requires("isthmus") or []:
        extra = re.search(r"extra == ['\"]([a-z_]+)['\"]", requirement)
        if extra and normal(re.split(r"[<>=!~ ;\[]", requirement)[0]) in map(normal, distributions):
            return install_command(extra.group(1))
    return f"pip install {distributions[0]}"


def normal(name: str) -> str:
    """Returns the name of a distribution as indexes and lock files write it.

    >>> normal("Ruamel.YAML_x")
    'ruamel-yaml-x'
    """
    return re.sub(r"[-_.]+", "-", name).lower()
