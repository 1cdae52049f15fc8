"""What the tests of several rooms share: text."""

from tests.conftest import VOCAB

CLS, SEP, PAD, MASK, UNK = (VOCAB.index(f"[{name}]") for name in ("CLS", "SEP", "PAD", "MASK", "UNK"))


def ids(*tokens: str) -> tuple[int, ...]:
    return tuple(VOCAB.index(token) for token in tokens)
