"""Randomness as a function: a seed for every draw, from what is drawn and not from what was drawn before."""

from hashlib import blake2b


def derive_seed(seed: int, *parts: int | str) -> int:
    """A 63-bit seed for one draw, e.g. `derive_seed(seed, "noise", epoch, sample)`.

    The same arguments give the same seed on every machine, in every process and at every batch size, so a run can
    stop, resume or be split over processes without a change in what it draws.
    """
    words = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "big") >> 1
