"""How strongly a method acts, as a function of progress."""

import math


def grl_lambda(progress: float, high: float) -> float:
    """Returns the weight of the reversed gradient: high * (2 / (1 + exp(-10 p)) - 1).

    Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17 (2016), section 5.2.2.

    >>> grl_lambda(0.0, 1.0), round(grl_lambda(1.0, 1.0), 3)
    (0.0, 1.0)
    """
    return high * (2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0)
