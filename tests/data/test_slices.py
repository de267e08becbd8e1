import pytest

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.data.slices import Slice, VolumeConfig, chosen, place_of, volume_problem

UP = (0.0, 0.0, 1.0)


def at(*positions: float) -> list[Slice]:
    return [Slice("s", UP, position) for position in positions]


def test_a_position_is_measured_along_the_normal_of_an_oblique_plane() -> None:
    cosines = [1, 0, 0, 0, 0.6, 0.8]  # normal: (0, -0.8, 0.6)

    first, second = place_of([3, 0, 0], cosines), place_of([-7, -1.6, 1.2], cosines)

    assert first is not None and second is not None
    assert first[0] == pytest.approx((0, -0.8, 0.6))
    assert second[1] - first[1] == pytest.approx(2)


def test_cosines_that_span_no_plane_give_no_place() -> None:
    assert place_of([0, 0, 0], [1, 0, 0, 1, 0, 0]) is None


def test_evenly_placed_slices_are_a_volume_and_so_is_a_single_one() -> None:
    assert volume_problem(at(-1, 1.5, 4.0, 6.501)) == ""
    assert volume_problem(at(3)) == ""


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        (at(0, 2, 4, 8, 10), r"missing or broken: 1 gaps, the first of 4 mm after 4 mm, where 2 mm are usual"),
        (at(0, 2, 2, 4), "1 of the 4 slices of the series have the position of another slice"),
        ([*at(0, 2), Slice("s", (1.0, 0.0, 0.0), 4)], "slices of the series are not parallel"),
    ],
)
def test_a_gap_a_second_slice_at_one_place_and_a_turned_slice_are_named(slices: list[Slice], reason: str) -> None:
    assert reason in volume_problem(slices)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"most": 1}, [3]),
        ({"most": 3}, [2, 3, 4]),
        ({"every": 3}, [0, 3, 6]),
        ({"every": 2}, [1, 3, 5]),
        ({"spacing": 5.0}, [1, 3, 5]),  # 7.5 mm is the middle; 2.5 and 12.5 mm are wanted
        ({"spacing": 3.5}, [0, 2, 3, 4, 6]),  # 0.5, 4, 7.5, 11, 14.5 mm: the nearest available
        ({"spacing": 5.0, "most": 2}, [1, 3]),
    ],
)
def test_slices_are_taken_about_the_middle(options: dict[str, object], expected: list[int]) -> None:
    positions = [2.5 * k for k in range(7)]

    assert chosen(positions, VolumeConfig.model_validate(options)) == expected


def test_every_and_spacing_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="'every' and 'spacing' both set the distance between slices"):
        validated(VolumeConfig, {"every": 2, "spacing": 5}, "params.yaml: scenarios.x.volumes.")
