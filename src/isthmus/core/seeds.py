"""Randomness is an argument: every generator is derived from a seed and the name of what it is for."""

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Returns a 63-bit seed for one purpose, independent of every other purpose of the same seed.

    >>> derive_seed(0, "batches") != derive_seed(0, "weights")
    True
    """
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def uniform_from(*parts: str | int) -> float:
    """Returns a number in [0, 1) that depends on the parts alone: the same today, tomorrow and elsewhere.

    >>> 0 <= uniform_from("lot-3", 0) < 1
    True
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
