import numpy as np

from isthmus.evaluation.guards.anomaly import Guards

GOOD, DEFECTIVE = [0] * 20, [1] * 10


def learned(alarms_of_good: int, alarms_of_defective: int) -> bool:
    predicted = np.array(
        [
            [1] * alarms_of_good + [0] * (20 - alarms_of_good),
        ],
        np.int64,
    )
    predicted = np.concatenate([predicted[0], [1] * alarms_of_defective + [0] * (10 - alarms_of_defective)])
    return Guards().learned(predicted[None], np.array(GOOD + DEFECTIVE), 0.05)[0]


def test_a_detector_is_refused_only_where_good_images_alarm_more_often_than_defects() -> None:
    assert learned(2, 9) and learned(2, 1) and learned(0, 0)
    assert not learned(18, 1)


def test_a_source_without_defects_shows_nothing_and_refuses_nothing() -> None:
    assert Guards().learned(np.ones((2, 20), np.int64), np.array(GOOD), 0.05) == (True, 1.0)


def test_a_threshold_under_which_most_target_images_alarm_is_a_collapse() -> None:
    labels = np.array(GOOD)

    assert Guards().collapsed(np.array([[1] * 11 + [0] * 9]), labels, 2)
    assert not Guards().collapsed(np.array([[1] * 10 + [0] * 10]), labels, 2)
    assert not Guards().collapsed(np.zeros((1, 20), np.int64), labels, 2)
