"""Sentences of WikiText-2's validation split: its paragraphs split, without headings and without `<unk>`."""

from __future__ import annotations

import random
import re
from pathlib import Path

CORPUS = Path(__file__).resolve().parents[3] / "shared/data/corpus/wikitext2_valid.txt"


def split(paragraph: str) -> list[str]:
    """The sentences of a paragraph of WikiText, whose "@-@" marks are undone: what ends in a full stop, and in balance.

    A full stop ends a sentence where a capital letter, a digit or a quotation mark follows.
    """
    plain = re.sub(r" @([-,.])@ ", r"\1", paragraph.strip())
    parts = re.split(r"(?<= [.!?]) (?=[\"'(]? ?[A-Z0-9])", plain)
    return [part for part in parts if part.endswith((" .", " !", " ?")) and part.count('"') % 2 == 0]


def sentences(shortest: int = 5, longest: int = 10_000) -> list[str]:
    """All different sentences of the corpus with so many words, in its order."""
    lines = CORPUS.read_text("utf-8").splitlines()
    found = (one for line in lines if not line.lstrip().startswith("=") for one in split(line))
    kept = (one for one in found if "<unk>" not in one and shortest <= len(one.split()) <= longest)
    return list(dict.fromkeys(kept))


def ordinary(count: int, seed: int, shortest: int = 8, longest: int = 16) -> list[str]:
    """Some of them, drawn at random: nobody chose them for anything."""
    return random.Random(seed).sample(sentences(shortest, longest), count)
