import numpy as np
import pytest

from isthmus.core.errors import DataError
from isthmus.data.imaging import stain
from isthmus.data.imaging.stain import (
    ANCHOR_MEAN,
    ANCHOR_SPREAD,
    ANCHOR_STAINS,
    ANCHOR_STRENGTH,
    StainFit,
    from_lab,
    normalised,
    stain_vectors,
    to_lab,
)

OTHER = np.array([[0.65, 0.25], [0.65, 0.90], [0.40, 0.36]])  # a bluer haematoxylin, a more orange eosin


def tissue(stains: np.ndarray, strength: float = 1.0, seed: int = 0) -> np.ndarray:
    amounts = np.random.default_rng(seed).gamma(2, 0.5, (60, 60, 2)) * strength
    share = np.random.default_rng(seed + 1).random((60, 60, 1))
    amounts = amounts * np.concatenate([share, 1 - share], axis=2) + 0.02
    return np.clip(240 / 255 * np.exp(-(amounts @ stains.T)), 0, 1)


def fit(method: str, images: list[np.ndarray]) -> dict[str, list[float]]:
    fitting = StainFit(method)
    for image in images:
        fitting.add(image)
    return fitting.fitted()


def test_l_alpha_beta_is_the_papers_by_hand() -> None:
    lms = np.log10([0.3811 * 0.5 + 0.5783 * 0.4 + 0.0402 * 0.3, 0.1967 * 0.5 + 0.7244 * 0.4 + 0.0782 * 0.3,
                    0.0241 * 0.5 + 0.1288 * 0.4 + 0.8444 * 0.3])  # fmt: skip
    expected = [lms.sum() / 3**0.5, (lms[0] + lms[1] - 2 * lms[2]) / 6**0.5, (lms[0] - lms[1]) / 2**0.5]

    np.testing.assert_allclose(to_lab(np.array([0.5, 0.4, 0.3])), expected, rtol=1e-12)


def test_l_alpha_beta_and_back_is_the_identity() -> None:
    rgb = np.random.default_rng(0).uniform(0.1, 1, (10, 10, 3))

    np.testing.assert_allclose(from_lab(to_lab(rgb)), rgb, atol=1e-9)


def test_reinhard_brings_a_domain_to_the_anchors_mean_and_spread() -> None:
    images = [tissue(OTHER, seed=seed) * np.array([0.9, 1.0, 0.8]) for seed in range(4)]
    fitted = fit("reinhard", images)

    lab = to_lab(np.stack([normalised(image, "reinhard", fitted) for image in images])).reshape(-1, 3)

    np.testing.assert_allclose(lab.mean(axis=0), ANCHOR_MEAN, atol=0.02)
    np.testing.assert_allclose(lab.std(axis=0), ANCHOR_SPREAD, rtol=0.35)  # clipping at white shortens a tail


def test_reinhard_of_a_pixel_is_equation_10_by_hand() -> None:
    fitted = {"mean": [-0.4, 0.01, 0.02], "std": [0.3, 0.05, 0.04]}
    rgb = np.array([[[0.6, 0.5, 0.55]]])

    expected = (to_lab(rgb) - fitted["mean"]) / fitted["std"] * ANCHOR_SPREAD + ANCHOR_MEAN

    np.testing.assert_allclose(normalised(rgb, "reinhard", fitted), from_lab(expected), rtol=1e-9)


def test_macenko_finds_the_stains_that_an_image_was_made_of() -> None:
    stains = OTHER / np.linalg.norm(OTHER, axis=0)
    rng = np.random.default_rng(0)
    amounts = np.concatenate([rng.uniform(0.3, 2, (2000, 1)), rng.uniform(0.3, 2, (2000, 1))], axis=1)
    amounts[:500, 1], amounts[500:1000, 0] = 0, 0

    found = stain_vectors(amounts @ stains.T)

    assert (np.abs((found * stains).sum(axis=0)) > 0.999).all()


def test_macenko_brings_two_laboratories_to_one_picture() -> None:
    ours, theirs = tissue(ANCHOR_STAINS), tissue(OTHER, 1.3)
    before = np.abs(ours - theirs).mean()

    pair = [normalised(image, "macenko", fit("macenko", [image])) for image in (ours, theirs)]

    assert np.abs(pair[0] - pair[1]).mean() < 0.4 * before


def test_macenko_scales_the_99th_percentile_of_each_stain_to_the_anchors() -> None:
    image = tissue(OTHER)
    fitted = fit("macenko", [image])

    density = stain.optical_density(normalised(image, "macenko", fitted)).reshape(-1, 3)

    found = np.percentile(density @ np.linalg.pinv(ANCHOR_STAINS).T, 99, axis=0)
    np.testing.assert_allclose(found, ANCHOR_STRENGTH, rtol=0.15)


def test_white_stays_white() -> None:
    fitted = fit("macenko", [tissue(OTHER)])

    assert normalised(np.full((4, 4, 3), 240 / 255), "macenko", fitted).min() == pytest.approx(240 / 255)


def test_a_domain_without_stained_tissue_is_refused() -> None:
    with pytest.raises(DataError, match=r"0 stained pixels in a domain's training images; macenko needs 100"):
        fit("macenko", [np.ones((9, 9, 3))])


def test_a_domain_without_colour_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"no RGB training image in a domain. Set 'stain: none'"):
        StainFit("reinhard").fitted()
