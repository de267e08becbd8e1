"""The learning-rate range test: the rate grows from step to step, and the loss shows which rates are usable.

Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3. There it grows linearly; here by a
constant factor, as usable rates span decades.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from isthmus.core.errors import ConfigError
from isthmus.training.loop import LoopSession
from isthmus.training.optim import set_rate

_SMOOTHING = 0.9  # decay of the moving average over steps
_DIVERGED = 4.0  # times the lowest smoothed loss


@dataclass(frozen=True)
class RangeTest:
    """What was seen at each step.

    Attributes:
        rates: of all but the backbone.
        losses: total loss before the step with that rate.
    """

    rates: list[float]
    losses: list[float]

    @property
    def smoothed(self) -> list[float]:
        """The losses as a moving average, its start corrected."""
        return smooth(self.losses)

    @property
    def suggestion(self) -> float | None:
        """The rate at which the loss falls fastest; None where it never falls."""
        return steepest(self.rates, self.smoothed)


def range_test(session: LoopSession, lowest: float, highest: float, steps: int) -> RangeTest:
    """Trains a session for some steps at growing rates; the session is of no other use afterwards.

    It ends early when the smoothed loss is not finite or four times its lowest.

    Args:
        session: fresh.
        lowest: first learning rate.
        highest: last learning rate.
        steps: in all, 2 or more.

    Raises:
        ConfigError: nothing trains.
    """
    if not any(group["params"] for group in session.optimiser.param_groups):
        raise ConfigError(
            "params.yaml: models: head: knn trains nothing, so there is no learning rate to test. Set another head"
        )
    rates: list[float] = []
    losses: list[float] = []
    session.model.train()
    session.method.train()
    while len(rates) < steps:
        for batch in session.batches():
            rate = lowest * (highest / lowest) ** (len(rates) / (steps - 1))
            loss = torch.stack(list(session.method.losses(session.model, batch, 0.0).values())).sum()
            if not loss.isfinite():
                return RangeTest(rates, losses)
            rates.append(rate)
            losses.append(loss.item())
            smoothed = smooth(losses)
            if len(rates) == steps or smoothed[-1] > _DIVERGED * abs(min(smoothed)):
                return RangeTest(rates, losses)
            set_rate(session.optimiser, rate / session.full_rate)
            session.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            session.optimiser.step()
            session.method.after_step(session.model, 0.0)
    return RangeTest(rates, losses)


def smooth(values: Sequence[float]) -> list[float]:
    """Returns the exponential moving average with its start corrected.

    >>> [round(value, 3) for value in smooth([1.0, 1.0, 2.0])]
    [1.0, 1.0, 1.369]
    """
    found, mean = [], 0.0
    for number, value in enumerate(values, start=1):
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        found.append(mean / (1 - _SMOOTHING**number))
    return found


def steepest(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Returns the rate at which the loss falls fastest against the logarithm of the rate; None where it never falls.

    >>> steepest([0.001, 0.01, 0.1, 1.0, 10.0], [5.0, 4.9, 4.0, 1.0, 9.0])
    0.1
    """
    slopes = [
        ((losses[i + 1] - losses[i - 1]) / math.log(rates[i + 1] / rates[i - 1]), rates[i])
        for i in range(1, len(rates) - 1)
    ]
    slope, rate = min(slopes, default=(0.0, 0.0))
    return rate if slope < 0 else None
