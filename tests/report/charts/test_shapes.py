import re

import numpy as np
import pytest

from isthmus.report.charts import shapes


def test_a_scatter_draws_each_finite_point_once_and_counts_them_for_a_screen_reader():
    cloud = shapes.Cloud("line_a", np.array([0.0, 1.0, np.nan]), np.array([0.0, 1.0, 0.5]), "source")

    svg = shapes.scatter([cloud], shapes.Frame.around(cloud.x, cloud.y), "By domain")

    assert len(re.findall(r"M[\d.]+ [\d.]+h0", svg)) == 2
    assert 'aria-label="By domain: line_a 3 points"' in svg


def test_the_corners_of_the_frame_lie_inside_the_chart():
    x, y = np.array([-5.0, 5.0]), np.array([100.0, 300.0])

    svg = shapes.scatter([shapes.Cloud("a", x, y, 0)], shapes.Frame.around(x, y), "map")

    assert "M8.0 292.0h0M392.0 8.0h0" in svg


def test_two_charts_in_one_frame_put_the_same_place_at_the_same_spot():
    frame = shapes.Frame(0.0, 10.0, 0.0, 10.0)
    many = shapes.Cloud("a", np.array([0.0, 5.0, 10.0]), np.array([0.0, 5.0, 10.0]), 0)
    one = shapes.Cloud("a", np.array([5.0]), np.array([5.0]), 0)

    assert "M200.0 150.0h0" in shapes.scatter([many], frame, "many")
    assert "M200.0 150.0h0" in shapes.scatter([one], frame, "one")


def test_points_that_are_all_the_same_are_drawn_in_the_middle():
    x = np.array([3.0, 3.0])

    assert "M200.0 150.0h0" in shapes.scatter([shapes.Cloud("a", x, x, 0)], shapes.Frame.around(x, x), "map")


def test_no_finite_point_at_all_still_gives_a_chart():
    x = np.array([np.nan])

    assert "<svg" in shapes.scatter([shapes.Cloud("a", x, x, 0)], shapes.Frame.around(x, x), "map")


def test_forty_classes_have_forty_different_pairs_of_colour_and_shape():
    none = np.array([])

    clouds = [shapes.class_cloud(str(number), number, none, none) for number in range(40)]

    assert len({(cloud.colour, cloud.shape) for cloud in clouds}) == 40


def test_a_name_with_markup_is_escaped_in_the_label():
    none = np.array([])

    svg = shapes.scatter([shapes.Cloud('"><script>', none, none, 0)], shapes.Frame(0, 1, 0, 1), "<b>")

    assert "<script>" not in svg
    assert "<b>" not in svg


def test_a_line_breaks_where_a_loss_is_not_finite():
    svg = shapes.lines([[1.0, None, 0.0, 0.5]], 0.0, 1.0, "loss", kept=[4], best=2)

    assert 'class="seed" d="M0.00 0.00M66.67 100.00L100.00 50.00"' in svg
    assert '<path class="kept" d="M100.00 0V100"/>' in svg
    assert '<path class="best" d="M33.33 0V100"/>' in svg


@pytest.mark.parametrize("series", [[], [[]], [[0.5]], [[None, None]]])
def test_curves_of_none_or_one_epoch_still_give_a_chart(series: list[list[float | None]]):
    assert "<svg" in shapes.lines(series, 0.0, 1.0, "loss", kept=[1], best=1)


def test_the_mean_of_seeds_is_the_mean_of_each_epoch_and_missing_where_one_is_missing():
    assert shapes.mean_line([[1.0, 2.0, 3.0], [3.0, None, 5.0], [5.0, 6.0]]) == [3.0, None, None]
