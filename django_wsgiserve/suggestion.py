"""What somebody meant who wrote something that does not exist."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the one of `words` that `word` comes closest to; empty when none is close.

    Args:
        word: As written.
        words: What there is.
        cutoff: How alike they must be; 1.0 is the same.
    """
    # Here: the supervisor, which is sent values that are right, is 250 KiB smaller without.
    import difflib

    return next(iter(difflib.get_close_matches(word, words, 1, cutoff)), "")
