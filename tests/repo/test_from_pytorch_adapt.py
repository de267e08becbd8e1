"""docs/from_pytorch_adapt.md: its Python runs as it stands, and what its table names is there."""

import re
from typing import Any

import pytest
import torch
import yaml
from pytorch_adapt import hooks, layers, validators

from isthmus.adapt import Shape
from isthmus.core import plugins
from tests.repo import REPOSITORY

PAGE = (REPOSITORY / "docs" / "from_pytorch_adapt.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_runs_from_top_to_bottom_and_both_ways_learn_the_source() -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/from_pytorch_adapt.md", "exec"), names)

    start = torch.nn.functional.cross_entropy(torch.zeros(64, 3), names["labels"])
    theirs = torch.nn.functional.cross_entropy(names["C"](names["G"](names["source"])), names["labels"])
    ours = names["method"].losses(names["model"], names["batch"], 1.0)
    assert float(theirs.detach()) < float(start) and float(ours["source"].detach()) < float(start)
    assert set(ours) == {"source", "domain", "spectral"}
    nuclear = plugins.load("adapt.methods", "bnm").Config(weight=0.5).build(Shape(3, 16, 1, 64, 0))
    expected = nuclear.losses(names["model"], names["batch"], 0.5)
    assert float(names["losses"]["norm"].detach()) == pytest.approx(float(expected["nuclear"].detach()), abs=1e-5)


def test_its_params_are_ones_that_the_methods_take() -> None:
    (section,) = blocks("yaml")

    for name, options in yaml.safe_load(section)["methods"].items():
        plugins.load("adapt.methods", name).Config(**options)


def test_every_hook_layer_validator_and_method_that_it_names_exists() -> None:
    rows = re.findall(r"^\| `(\w+)`(?: with `(\w+)`)? \| `(\w+)` \|", PAGE, re.MULTILINE)

    assert len(rows) == PAGE.count("\n| `")
    for hook, layer, method in rows:
        assert hasattr(hooks, hook) and (not layer or hasattr(layers, layer)), hook
        assert method in plugins.names("adapt.methods")
    named = re.findall(r"`(\w+Validator)`", PAGE)
    assert len(named) == 6 and all(hasattr(validators, name) for name in named)


def test_only_the_methods_that_stand_on_it_pay_for_its_import() -> None:
    source = REPOSITORY / "src"
    importing = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if re.search(
            r"^\s*(from|import) (pytorch_adapt|pytorch_metric_learning|torchmetrics)\b", path.read_text(), re.M
        )
    }

    assert importing == {f"isthmus/adapt/methods/{name}.py" for name in ("atdoc", "bsp", "rtn", "swd", "vada")}
    assert not {"bsp", "swd", "atdoc", "rtn", "vada"} & set(
        yaml.safe_load((REPOSITORY / "params.yaml").read_text())["methods"]
    )
