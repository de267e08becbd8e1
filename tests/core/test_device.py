import pytest
import torch

from isthmus.core.device import pick_device
from isthmus.core.errors import ConfigError


def test_auto_takes_what_is_there() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="device: 'cuda' was asked for but this machine has no usable GPU"):
        pick_device("cuda")
