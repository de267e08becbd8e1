from pathlib import Path

import numpy as np
import torch
from scipy.linalg import fractional_matrix_power

from isthmus.adapt.methods.coral_whitening import Adaptation, recolouring
from tests.adapt.small_session import data, logits, method, session


def test_the_map_equals_the_matrix_powers_of_the_paper() -> None:
    source, target = logits(20, 4), logits(30, 4, 1) @ logits(4, 4, 2)
    c_s, c_t = (np.cov(rows.numpy(), rowvar=False) + np.eye(4) for rows in (source, target))

    mapping = recolouring(source, target, 1.0).numpy()

    np.testing.assert_allclose(
        mapping, fractional_matrix_power(c_s, -0.5) @ fractional_matrix_power(c_t, 0.5), atol=1e-10
    )
    np.testing.assert_allclose(mapping.T @ c_s @ mapping, c_t, atol=1e-10)


def test_a_domain_to_itself_is_the_identity_and_odd_inputs_stay_finite() -> None:
    rows = logits(9, 4)

    torch.testing.assert_close(recolouring(rows, rows, 1.0), torch.eye(4, dtype=torch.float64))
    for odd in (torch.ones(5, 4, dtype=torch.float64), rows[:1], logits(2, 4)):
        assert torch.isfinite(recolouring(odd, rows, 1.0)).all()
        assert torch.isfinite(recolouring(rows, odd, 1.0)).all()


def test_training_rows_get_the_mean_and_nearly_the_covariance_of_the_target(tmp_path: Path) -> None:
    built = method("coral_whitening", ridge=1e-6)
    assert isinstance(built, Adaptation)
    running = session(built, tmp_path)

    running.method.fit(running)

    given = data()
    source, target = (torch.from_numpy(given.inputs.values[r]) for r in (given.source_train[0], given.target_train))
    mapped = built.recoloured(source, torch.zeros(len(source), dtype=torch.int64))
    torch.testing.assert_close(mapped.mean(0), target.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mapped.T.cov(), target.T.cov(), atol=1e-3, rtol=1e-2)
    assert running.progress == 1.0


def test_each_source_has_its_own_map(tmp_path: Path) -> None:
    built = method("coral_whitening")
    assert isinstance(built, Adaptation)
    shift, mapping = torch.zeros(2), torch.eye(2)
    built.maps = {0: (shift, 2 * mapping, shift), 1: (shift, 3 * mapping, shift + 1)}

    mapped = built.recoloured(torch.ones(2, 2), torch.tensor([1, 0]))

    assert mapped.tolist() == [[4.0, 4.0], [2.0, 2.0]]
