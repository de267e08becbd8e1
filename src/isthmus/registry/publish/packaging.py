"""Puts together what the registered model is made of: weights, facts, code, requirements."""

import ast
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import isthmus
from isthmus.core import plugins
from isthmus.core.code.fingerprint import import_statements
from isthmus.core.config import load_params
from isthmus.core.errors import StoreError
from isthmus.core.files import read_json, write_json
from isthmus.data.scenario import Scenario, ScenarioParams
from isthmus.registry.lineage.lineage import REQUIREMENTS, Lineage
from isthmus.registry.model.model_files import SPEC, TYPICALITY
from isthmus.registry.publish.records import Publication
from isthmus.registry.publish.run_contents import lineage_facts
from isthmus.registry.store.tracking import Store

# What the bundled code imports when it predicts. Readers of other formats add theirs where the lock file has them.
_NEEDS = ["mlflow", "numpy", "pandas", "pillow", "pydantic", "pyyaml", "safetensors", "timm", "torch", "torchvision"]
_NEEDS_IF_LOCKED = ["pydicom", "nibabel", "rasterio", "pyarrow", "scipy"]
_NEEDS_OF_BACKBONE = {"monai": ["monai", "einops"]}  # 250 MB of memory, so not for every model


def scenario_of(lineage: Lineage) -> Scenario:
    """Returns the section of `params.yaml` that the results in `dvc.lock` were made by."""
    sections = {"scenario": f"scenarios.{lineage.scenario}"}
    return load_params(ScenarioParams, lineage.path("report", "params"), sections).scenario


def write_model(record: Publication, lineage: Lineage, store: Store, run: str) -> None:
    """Uploads the chosen method's model, as the script in `served.py` expects it."""
    # Here and not above: torch takes two seconds, and most calls find everything published.
    from isthmus.evaluation.selection.choice import parts
    from isthmus.evaluation.shift.membership import write_typicalities
    from isthmus.models.embedding import read_facts
    from isthmus.models.trained import export_trained
    from isthmus.registry.publish.fitted_confidence import promise, typicalities

    name = lineage.scenario
    scenario = scenario_of(lineage)
    made = read_json(lineage.path("select", "choice"))
    chosen = made["chosen"]
    prepared = lineage.path("prepare", "prepared")
    facts = read_json(prepared / "facts.json")
    spec = {"scenario": name, "kind": scenario.kind, "preprocess": facts["preprocess"], "classes": facts["classes"]}
    whole = bool(scenario.kind_config("params.yaml: preprocess.").given_whole_frame())
    spec |= {"task": scenario.task, "whole_frame": whole}
    spec |= {"domain": scenario.target, "fitted": facts["fitted"], "promise": promise(lineage, scenario)}
    spec["tiles"] = scenario.tiles.model_dump(mode="json") if scenario.tiles else None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        trained, features = lineage.path("select", "trained"), lineage.path("embed", "features")
        export_trained(trained, parts(made, chosen["method"]), features, chosen["seed"], folder)
        task = plugins.load("registry.model.answers", scenario.task).Answers
        write_json(folder / SPEC, spec | {"inputs": list(task.inputs)})
        write_typicalities(typicalities(lineage, scenario), folder / TYPICALITY)
        package = write_code(Path(temporary) / "isthmus")
        outputs = task.outputs(facts["classes"])
        needs = served_requirements(
            lineage.project / REQUIREMENTS, read_facts(features).backbone["name"], own_packages()
        )
        metadata = {"classes": facts["classes"], "chosen": chosen} | lineage_facts(record, lineage)
        store.write_model(
            run, record.model_id, package / "registry" / "model" / "served.py", folder, package,
            needs, list(task.inputs), outputs, metadata,
        )  # fmt: skip


def write_code(folder: Path) -> Path:
    """Writes the code that a model bundles: the imported package, with the project's own plugins in their places."""
    shutil.copytree(Path(isthmus.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for place in plugins.MEMBERS:
        for file in plugins.own_files(place):
            shutil.copy(file, folder.joinpath(*place.split("."), file.name))
    return folder


def own_packages() -> list[str]:
    """Returns the distributions of other packages that the project's own plugins import, sorted."""
    tops = set()
    for place in plugins.MEMBERS:
        for file in plugins.own_files(place):
            for node in ast.walk(ast.parse(file.read_bytes())):
                tops |= {module.partition(".")[0] for module, _ in import_statements(node)}
    if not tops:
        return []
    distributions = packages_distributions()  # reads what is installed, file by file: seconds
    found = {name for top in tops - {"isthmus"} for name in distributions.get(top, [])[:1]}
    return sorted(map(plugins.normal, found))


def served_requirements(lock: Path, backbone: str, own: Sequence[str] = ()) -> list[str]:
    """Returns what the served model needs, pinned; never this package itself.

    Args:
        lock: the project's lock file, which pins them; where there is none, the installed versions do.
        backbone: its plugin's name.
        own: more distributions, which the project's own plugins need.

    Raises:
        StoreError: the lock file does not pin one of them, or it is not installed.
    """
    needs = _NEEDS + _NEEDS_OF_BACKBONE.get(backbone, [])
    needs += [name for name in own if name not in needs]
    if not lock.exists():
        return _installed(needs)
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;#]+)", lock.read_text(encoding="utf-8"), re.MULTILINE))
    missing = [name for name in needs if name not in pins]
    if missing:
        raise StoreError(
            f"{lock}: does not pin {', '.join(missing)}, which the served model needs. Write the lock again"
        )
    return [f"{name}=={pins[name]}" for name in sorted(needs + [n for n in _NEEDS_IF_LOCKED if n in pins])]


def _installed(needs: Sequence[str]) -> list[str]:
    pins = {}
    for name in [*needs, *_NEEDS_IF_LOCKED]:
        try:
            pins[name] = version(name).partition("+")[0]  # of torch, `+cpu` names an index and no version
        except PackageNotFoundError:
            if name in needs:
                raise StoreError(f"the served model needs '{name}', which is not installed. Install it") from None
    return [f"{name}=={pins[name]}" for name in sorted(pins)]
