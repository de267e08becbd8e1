from pathlib import Path

import pytest
import torch

from isthmus.adapt import Method
from isthmus.core import plugins
from tests.adapt.small_session import method, session

OWN_LOOPS = [
    name
    for name in plugins.names("adapt.methods")
    if plugins.load("adapt.methods", name).Adaptation.fit is not Method.fit
]


@pytest.mark.parametrize("name", OWN_LOOPS)
def test_every_step_of_a_method_with_a_loop_of_its_own_clips_at_the_configured_norm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    real = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, most: norms.append(most) or real(p, most))
    built = method(name)

    built.fit(session(built, tmp_path, epochs=2, clip=0.25))

    assert len(norms) > 2
    assert set(norms) == {0.25}
