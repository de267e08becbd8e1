"""A second map of the features, in which images lie beside those that they resemble."""

from collections.abc import Sequence

import numpy as np

from isthmus.evaluation.shift.distances import Features

MOST = 400  # [image] of all domains: 0.8 s of one busy core; 1,000 take 2.9 s
_DIMENSIONS = 50  # principal components that distances are taken in, as the authors of t-SNE do
_PERPLEXITY = 30.0
_STEPS = 500
_START = 1e-4  # spread of the first coordinates


def neighbour_map(domains: Sequence[Features], seed: int) -> list[Features]:
    """Returns 2-D coordinates of the first rows of each domain by t-SNE, `MOST` in all and as many of each domain.

    Van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008, https://www.jmlr.org/papers/v9/vandermaaten08a.html,
    by scikit-learn (Barnes-Hut), from the first two principal components on, so that only ties depend on the seed. On
    one thread, since the order of sums depends on their number.

    Args:
        domains: float64 `[N, D]` features of each.
        seed: of scikit-learn.
    """
    from threadpoolctl import threadpool_limits

    most = MOST // len(domains)
    parts = [rows[:most] for rows in domains]
    with threadpool_limits(1):
        places = _placed(np.concatenate(parts), seed)
    return np.split(places, np.cumsum([len(rows) for rows in parts])[:-1])


def _placed(whole: Features, seed: int) -> Features:
    from sklearn.manifold import TSNE

    left, sizes, _ = np.linalg.svd(whole - whole.mean(axis=0), full_matrices=False)
    scores = (left * sizes)[:, :_DIMENSIONS]
    spread = scores[:, 0].std()
    if not spread > 0:  # all images are alike: one place for all
        return np.zeros((len(whole), 2))
    start = np.pad(scores[:, :2], ((0, 0), (0, max(0, 2 - scores.shape[1])))) / spread * _START
    perplexity = min(_PERPLEXITY, (len(whole) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init=start, max_iter=_STEPS, random_state=seed % 2**32)
    places: Features = model.fit_transform(scores).astype(np.float64)
    return places
