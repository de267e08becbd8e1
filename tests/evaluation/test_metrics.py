"""Metrics against scikit-learn, hand-worked numbers and slow loops."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

from isthmus.core.accuracy import balanced_accuracy
from isthmus.evaluation import metrics


def a_problem(images: int = 60, seeds: int = 3, classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    right = rng.random((seeds, images)) < 0.6
    predicted = np.where(right, labels, rng.integers(0, classes, (seeds, images)))
    groups = np.array([f"lot{g}" for g in rng.integers(0, images // 4, images)])
    return predicted, labels, groups


def test_entropy_of_a_uniform_distribution_is_log_k() -> None:
    assert metrics.entropy(np.full(5, 0.2)) == pytest.approx(np.log(5))


def test_effective_classes_of_a_collapsed_model_is_one() -> None:
    assert metrics.effective_classes(np.tile([0.0, 1.0, 0.0], (9, 1))) == 1.0


def test_pairwise_agreement_is_the_mean_over_pairs() -> None:
    predicted = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1]])

    assert metrics.pairwise_agreement(predicted) == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    assert metrics.pairwise_agreement(predicted[:1]) == 1.0


def test_balanced_accuracy_equals_scikit_learns() -> None:
    predicted, labels, _ = a_problem()

    assert balanced_accuracy(predicted[0], labels) == pytest.approx(balanced_accuracy_score(labels, predicted[0]))


def test_balanced_accuracy_leaves_out_classes_that_are_absent() -> None:
    assert balanced_accuracy(np.array([0, 2]), np.array([0, 0])) == 0.5


def test_class_scores_equal_scikit_learns_mean_over_seeds() -> None:
    predicted, labels, _ = a_problem()

    found = metrics.class_scores(predicted, labels, 4)

    for name, score in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
        expected = np.mean([score(labels, row, average=None) for row in predicted], axis=0)
        assert [entry[name] for entry in found] == pytest.approx(expected)
    assert sum(entry["count"] for entry in found) == len(labels)


def test_class_scores_are_null_where_undefined() -> None:
    found = metrics.class_scores(np.array([[0, 0], [0, 0]]), np.array([0, 1]), 3)

    assert found[1] == {"recall": 0.0, "precision": None, "f1": 0.0, "count": 1}
    assert found[2] == {"recall": None, "precision": None, "f1": None, "count": 0}


def test_group_weights_draw_whole_groups_and_as_many_as_there_are() -> None:
    groups = np.array(["a", "a", "b", "c", "c", "c"])

    weights = metrics.group_weights(groups, 50, seed=1)

    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()


def test_group_weights_of_a_single_group_draw_images() -> None:
    weights = metrics.group_weights(np.array(["a"] * 8), 50, seed=1)

    assert weights.std(axis=1).max() > 0
    assert (weights.sum(axis=1) == 8).all()


def test_the_bootstrap_equals_a_slow_loop_over_drawn_images() -> None:
    predicted, labels, groups = a_problem(images=40)
    weights = metrics.group_weights(groups, 30, seed=3)

    fast = metrics.resampled_balanced_accuracy(predicted == labels, labels, weights)
    plain = metrics.resampled_accuracy(predicted == labels, weights)

    for number, row in enumerate(weights):
        drawn = [image for image, times in enumerate(row) for _ in range(int(times))]
        for seed, prediction in enumerate(predicted):
            recalls = []
            for k in set(labels[drawn].tolist()):
                members = [i for i in drawn if labels[i] == k]
                recalls.append(sum(prediction[i] == k for i in members) / len(members))
            assert fast[number, seed] == pytest.approx(sum(recalls) / len(recalls))
            assert plain[number, seed] == pytest.approx(sum(prediction[i] == labels[i] for i in drawn) / len(drawn))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(200):
        labels = np.repeat([0, 1], 100)
        right = rng.random((1, 200)) < 0.7
        drawn = metrics.resampled_balanced_accuracy(right, labels, metrics.group_weights(np.arange(200), 200, trial))
        low, high = metrics.interval(drawn[:, 0])
        hits += low <= 0.7 <= high

    assert 180 <= hits <= 200


def test_grouped_images_widen_the_interval() -> None:
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(20), 10)
    right = np.repeat(rng.random(20) < 0.6, 10)[None]  # a whole lot is right or wrong

    def width(by: np.ndarray) -> float:
        low, high = metrics.interval(metrics.resampled_accuracy(right, metrics.group_weights(by, 1000, 0))[:, 0])
        return high - low

    assert width(groups) > 2.5 * width(np.arange(200))
