"""Every method's whole training, its own loop included: it ends in finite numbers, also after it was cut off."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from isthmus.data.batch import Batch
from isthmus.training import loop
from tests.adapt.small_session import data, method, session, trained_methods


@pytest.mark.parametrize("name", trained_methods())
def test_a_run_that_was_cut_off_ends_in_the_same_weights_as_an_unbroken_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    unbroken = session(method(name), tmp_path / "unbroken")
    unbroken.method.fit(unbroken)
    broken = session(method(name), tmp_path / "broken")
    real = broken.batches

    def until_killed() -> Iterator[Batch]:
        for number, batch in enumerate(real()):
            if broken._epoch == 4 and number == 1:
                raise KeyboardInterrupt
            yield batch

    broken.batches = until_killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.method.fit(broken)

    resumed = session(method(name), tmp_path / "broken")
    resumed.method.fit(resumed)

    expected, found = unbroken.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert all(torch.isfinite(value).all() for value in expected.values())


@pytest.mark.parametrize("name", trained_methods())
def test_very_few_images_of_a_domain_still_train(name: str, tmp_path: Path) -> None:
    images = method(name).needs == "images"
    for source, target in ((2, 40), (40, 1)):
        running = session(
            method(name), tmp_path / f"{source}", given=data(images=images, source=source, target=target), epochs=2
        )

        running.method.fit(running)

        assert all(torch.isfinite(value).all() for value in running.model.state_dict().values())
