import pytest
import torch

from isthmus.core import device
from isthmus.core.device import make_deterministic, pick_device, training_precision
from isthmus.core.errors import ConfigError


def test_auto_takes_what_is_there() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="device: 'cuda' was asked for but this machine has no usable GPU"):
        pick_device("cuda")


@pytest.mark.parametrize("there", [True, False])
def test_training_takes_bfloat16_by_itself_only_where_the_device_has_it(
    there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda _: there)
    cpu = torch.device("cpu")

    assert training_precision("auto", cpu) == ("bf16" if there else "none")
    assert [training_precision(asked, cpu) for asked in ("none", "bf16", "fp16")] == ["none", "bf16", "fp16"]


@pytest.mark.parametrize(("for_gpus", "mode"), [(True, "warn"), (False, "error")])
def test_kernels_without_a_deterministic_form_stop_a_cpu_build_and_warn_in_one_for_gpus(
    for_gpus: bool, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: for_gpus)
    try:
        make_deterministic(1)

        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_deterministic_debug_mode() == {"warn": 1, "error": 2}[mode]
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(before)
