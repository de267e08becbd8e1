"""Two processes that torchrun starts on loopback against one process with the joint batch: the stage itself."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from isthmus.core.errors import ConfigError
from isthmus.models.cells import CellEncoder
from isthmus.training.devices import Devices, launch, must_launch, open_devices
from tests.adapt.small_session import classifier
from tests.require import require
from tests.scenario_files import ScenarioFiles
from tests.servers import free_port
from tests.stages.test_train import place

MODEL = {"mode": "full", "backbone": {"name": "small_cnn", "width": 2, "dropout": 0.0}, "epochs": 2, "bottleneck": 8}
CPU = torch.device("cpu")


def arguments(files: ScenarioFiles, method: str, folder: Path, processes: int) -> list[str]:
    """The stage's command line, with params of its own."""
    document = yaml.safe_load(files.params.read_text())
    document["methods"].setdefault(method, {})
    # AdamW makes a whole step of a gradient that is rounding alone, as that of a bias before BatchNorm is. SGD does
    # not; and a method with optimisers of its own, which are AdamW, has LayerNorm in the place of BatchNorm.
    changes: dict[str, object] = {"norm": "layer"} if method == "mcd" else {"optimiser": {"name": "sgd"}}
    document["models"]["small_cnn"] |= changes
    document["train"] |= {"seeds": [0], "processes": processes, "device": "cpu", "batch_size": 15}  # an odd share
    params = folder.parent / f"{folder.name}.yaml"
    params.write_text(yaml.safe_dump(document))
    paths = {"params": params, "manifest": files.manifest, "prepared": files.prepared, "features": files.features}
    paths |= {"labels-train": files.labels_train}
    paths |= {"checkpoints": folder.parent / f"{folder.name}.checkpoints", "trained": folder}
    flags = [part for name, path in paths.items() for part in (f"--{name}", str(path))]
    return ["isthmus.stages.train", "--scenario", "demo", "--method", method, *flags]


def started(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, timeout=240)


def torchrun(host: int, port: int) -> list[str]:
    """One of two hosts, each with one process."""
    where = ["--nnodes", "2", "--node_rank", str(host), "--master_addr", "127.0.0.1", "--master_port", str(port)]
    return ["-m", "torch.distributed.run", "--nproc_per_node", "1", *where, "--local_addr", "127.0.0.1", "-m"]


def assert_same_training(one: Path, two: Path, curve_lines: int) -> None:
    assert len(curves(one)) == curve_lines
    for expected, found in zip(curves(one), curves(two), strict=True):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    last = sorted((one / "seeds" / "0" / "epochs").glob("*.safetensors"))[-1].relative_to(one)
    logits = last.with_name(f"{last.stem}.logits.npy")
    np.testing.assert_allclose(np.load(two / logits), np.load(one / logits), atol=1e-3)
    expected_weights, weights = load_file(one / last), load_file(two / last)
    for name, value in expected_weights.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5, msg=name)


def curves(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "seeds" / "0" / "curves.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ScenarioFiles:
    require("lightning-fabric", importlib.util.find_spec("lightning_fabric") is not None)
    return place(tmp_path_factory.mktemp("devices"), **MODEL)


# distribution losses over both domains, an adversary, optimisers of a method's own, a loop of its own, a teacher
METHODS = ["mmd", "coral", "cdan", "mcd", "shot", "fixmatch"]
PHASES = {"shot": ["source", "target"]}  # each has epochs of its own


@pytest.mark.soak  # four processes a method, each of which imports torch
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_have_the_losses_and_weights_of_one_with_the_joint_batch(
    files: ScenarioFiles, method: str, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone = started(["-m", *arguments(files, method, one, 1)])
    assert alone.returncode == 0, alone.stderr[-3000:]

    shared = started(["-m", *arguments(files, method, two, 2)])  # which starts them itself

    assert shared.returncode == 0, shared.stderr[-3000:]
    assert_same_training(one, two, 2 * len(PHASES.get(method, ["joint"])))


@pytest.mark.soak
def test_two_hosts_with_working_folders_of_their_own_train_as_one(files: ScenarioFiles, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    alone = started(["-m", *arguments(files, "mmd", one, 1)])
    assert alone.returncode == 0, alone.stderr[-3000:]
    port, command = free_port(), arguments(files, "mmd", two, 2)

    hosts = []
    for host in (0, 1):
        (tmp_path / f"host{host}").mkdir()
        parts = [sys.executable, *torchrun(host, port), *command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        hosts.append(subprocess.Popen(parts, cwd=tmp_path / f"host{host}", env=environment))

    assert [host.wait(240) for host in hosts] == [0, 0]
    assert [list((tmp_path / f"host{host}").iterdir()) for host in (0, 1)] == [[], []]
    assert_same_training(one, two, 2)


@pytest.mark.soak
def test_a_process_that_fails_ends_the_stage_with_its_message_and_status(tmp_path: Path) -> None:
    failing = place(
        tmp_path, **{**MODEL, "backbone": {"name": "timm", "architecture": "resnet18", "weights": "random"}}
    )

    done = started(["-m", *arguments(failing, "mmd", tmp_path / "trained", 2)])

    assert done.returncode == 2
    assert "the backbone has BatchNorm, whose statistics would cover only a part" in done.stderr


def test_frozen_mode_needs_one_process_whatever_is_asked_for() -> None:
    assert must_launch(2)
    assert not must_launch(1)
    assert open_devices(2, CPU) is None


def test_processes_other_than_those_asked_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="train.processes: 1, but torchrun started 3 in all. Set train.processes: 3"):
        open_devices(1, CPU)
    with pytest.raises(ConfigError, match="torchrun started 2 processes here and 3 in all. Start as many on each"):
        open_devices(3, CPU)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"needs 'lightning-fabric': .*pip install -e '\.\[devices\]'"):
        open_devices(3, CPU)
    with pytest.raises(ConfigError, match=r"needs 'lightning-fabric'"):
        launch("isthmus.stages.train", [], 2)


class One:
    """What `Devices` asks of Fabric, for a run in which nothing is sent."""

    device, is_global_zero, world_size, global_rank = CPU, True, 1, 0


def test_a_frozen_model_and_a_backbone_with_batchnorm_are_not_shared() -> None:
    devices = Devices(One())

    with pytest.raises(ConfigError, match="in frozen mode there is nothing to share"):
        devices.share(classifier())
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.BatchNorm1d(5))
    with pytest.raises(ConfigError, match="the backbone has BatchNorm, whose statistics would cover only a part"):
        devices.share(classifier(images=True, network=network))


def test_a_model_that_answers_for_cells_is_refused_as_its_network_would_not_be_shared() -> None:
    model = classifier(images=True)
    model.backbone = CellEncoder(model.backbone.network, model.backbone.standardise)

    with pytest.raises(ConfigError, match=r"answer for each cell of an image, .* Set train.processes: 1"):
        Devices(One()).share(model)
