"""The command line of a stage, made from the signature of its `run`."""

import argparse
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from isthmus.core import plugins
from isthmus.core.code import code_lock
from isthmus.core.config import load_params
from isthmus.core.process.failures import one_message
from isthmus.core.process.parent import die_with_parent


def stage(run: Callable[..., Any], arguments: list[str] | None = None) -> None:
    """Parses flags, loads params, runs the stage; a failure ends in one clear message (`core.process.failures`).

    `run(params: Params, *, scenario: str, manifest: Path, ...)`: `--params FILE` names the YAML, each argument is
    a flag. An argument of type `str` is a name that stands in `Params.SECTIONS`.
    `Params.SECTIONS` maps fields to sections with placeholders (`"scenario": "scenarios.{scenario}"`); each
    placeholder is a flag too. `models.[scenarios.{scenario}.model]` takes a part of the path from another value.
    """
    hints = get_type_hints(run)
    kind = hints.get("params")  # a stage may read nothing of params.yaml
    sections: dict[str, str] = getattr(kind, "SECTIONS", {})
    arguments_of_run = [name for name in inspect.signature(run).parameters if name != "params"]
    paths = [name for name in arguments_of_run if hints[name] is Path]
    names = sorted({match for place in sections.values() for match in re.findall(r"{(\w+)}", place)})
    module = inspect.getmodule(run)
    parser = argparse.ArgumentParser(
        prog=f"python -m isthmus.stages.{Path(inspect.getfile(run)).stem}",
        description=module.__doc__ if module else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if kind is not None:
        parser.add_argument(
            "--params", type=Path, required=True, help="the YAML file with the sections this stage reads"
        )
    for name in names:
        parser.add_argument(f"--{name}", required=True, help=f"the name of the {name}")
    for name in paths:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    given = vars(parser.parse_args(arguments))
    if arguments is None:  # as a process of its own
        die_with_parent()
    raw: list[str] = []  # folders whose files are named in no message
    with one_message("-".join([Path(inspect.getfile(run)).stem, *(given[name] for name in names)]), raw):
        read = []
        if kind is not None:
            code_lock.check(given["params"].with_name(code_lock.NAME))
            plugins.use(given["params"].with_name(plugins.OWN))
            read = [load_params(kind, given["params"], {f: p.format(**given) for f, p in sections.items()})]
            raw += [str(scenario.raw) for params in read if (scenario := getattr(params, "scenario", None))]
        run(*read, **{name: given[name] for name in arguments_of_run})
