import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from isthmus.models.classifier import Classifier, Features, Standardise
from isthmus.models.patch_memory import PatchMemory, conformal_threshold, least_images, logits_of


def head(rows: int = 50, width: int = 6) -> PatchMemory:
    memory = PatchMemory(width, 2)
    memory.rows = torch.randn(rows, width, generator=torch.Generator().manual_seed(0))
    memory.threshold.copy_(torch.tensor([0.5, 2.0]))
    return memory


def test_distances_are_those_of_scikit_learns_nearest_neighbours() -> None:
    memory, cells = head(), torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1))
    allowed = torch.arange(50) % 2 == 0

    for rows, mask in ((memory.rows, None), (memory.rows[allowed], allowed)):
        expected = NearestNeighbors(n_neighbors=1).fit(rows.numpy()).kneighbors(cells.reshape(-1, 6).numpy())[0]
        np.testing.assert_allclose(memory.distances(cells, mask).numpy().ravel(), expected.ravel(), rtol=1e-4)


def test_an_image_is_defective_where_its_farthest_cell_is_beyond_its_domains_threshold() -> None:
    memory = head()
    backbone = Features(Standardise(torch.zeros(2, 6), torch.ones(2, 6)))
    model = Classifier(backbone, 6, 2, 6, "batch", 0, head=memory).eval()
    cells, domains = torch.randn(4, 9, 6, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 0, 1, 1])

    found = model(cells, domains)

    farthest = memory.distances(cells).amax(dim=1)
    assert (found.logits.argmax(dim=1) == (farthest > memory.threshold[domains]).long()).all()
    assert found.maps is not None and torch.equal(found.logits, logits_of(found.maps))
    assert found.features.shape == (4, 6)


def test_a_remembered_cell_is_at_no_distance_and_gives_finite_logits() -> None:
    memory = head()

    maps = memory.maps(memory.rows[:4].reshape(1, 4, 6), torch.tensor([0]))

    assert torch.isfinite(maps).all() and (maps < 0).all()


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1, 0.2, 0.34])
def test_the_least_number_of_images_is_the_first_that_bears_the_rate(alpha: float) -> None:
    count = least_images(alpha)

    assert np.isfinite(conformal_threshold(np.arange(float(count)), alpha))
    assert conformal_threshold(np.arange(float(count - 1)), alpha) == np.inf


@pytest.mark.parametrize(("count", "alpha"), [(19, 0.05), (40, 0.1), (200, 0.08)])
def test_good_images_alarm_at_the_stated_rate_in_the_mean_over_draws(count: int, alpha: float) -> None:
    rng = np.random.default_rng(0)
    rates = [(rng.normal(size=500) > conformal_threshold(rng.normal(size=count), alpha)).mean() for _ in range(2000)]

    place = int(np.ceil((count + 1) * (1 - alpha) - 1e-9))  # a new score is above the place-th of count
    assert np.mean(rates) == pytest.approx(1 - place / (count + 1), abs=0.004)
    assert 1 - place / (count + 1) <= alpha + 1e-12


def test_the_threshold_is_the_smallest_that_keeps_the_promise() -> None:
    scores = np.sort(np.random.default_rng(0).normal(size=30))
    alpha = 0.1

    threshold = conformal_threshold(scores, alpha)

    def p_value(new: float) -> float:
        return (1 + (scores >= new).sum()) / 31

    above, below = np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)
    assert p_value(above) <= alpha < p_value(below)


def test_the_place_of_the_threshold_is_exact_and_too_few_images_bear_none() -> None:
    assert conformal_threshold(np.arange(9.0), 0.1) == 8.0
    assert conformal_threshold(np.arange(8.0), 0.1) == np.inf
    assert conformal_threshold(np.array([]), 0.1) == np.inf
    assert conformal_threshold(np.arange(149.0), 0.18) == 122.0  # 150 * .82 is 123.00000000000001 in floats
