from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.core.errors import ConfigError
from tests.adapt.small_session import changed, classifier, data, method, session, snapshot


def test_adapted_statistics_equal_those_of_the_target_and_no_weight_moves(tmp_path: Path) -> None:
    running = session(method("adabn"), tmp_path)
    model, before = running.model, snapshot(running.model)

    running.method.adapt(model, running.target_batches())

    given = data()
    inputs = given.inputs.values[given.target_train] @ model.bottleneck[0].weight.detach().numpy().T.astype(np.float64)
    inputs = inputs + model.bottleneck[0].bias.detach().numpy()
    norm = model.bottleneck[1]
    np.testing.assert_allclose(norm.running_mean.numpy(), inputs.mean(0), atol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), inputs.var(0, ddof=1), rtol=1e-4)
    assert not changed(before, model)
    assert not norm._forward_pre_hooks


def test_kept_epochs_are_adapted_and_the_training_model_is_not(tmp_path: Path) -> None:
    running = session(method("adabn"), tmp_path)

    running.method.fit(running)

    from safetensors.torch import load_file

    kept = load_file(tmp_path / "epochs" / "004.safetensors")
    own = running.model.state_dict()
    assert not torch.allclose(kept["bottleneck.1.running_mean"], own["bottleneck.1.running_mean"])
    assert torch.equal(kept["bottleneck.0.weight"], own["bottleneck.0.weight"])


def test_one_target_image_gives_finite_statistics(tmp_path: Path) -> None:
    running = session(method("adabn"), tmp_path, given=data(target=1))

    running.method.adapt(running.model, running.target_batches())

    assert torch.isfinite(running.model.bottleneck[1].running_var).all()


def test_a_bottleneck_without_batch_norm_is_refused_before_training(tmp_path: Path) -> None:
    running = session(method("adabn"), tmp_path, classifier(norm="layer"))

    with pytest.raises(
        ConfigError, match="methods: adabn measures BatchNorm, but the bottleneck .* Allowed: models: norm: batch"
    ):
        running.method.fit(running)
