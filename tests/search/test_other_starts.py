"""The room search.other_starts."""

import pytest
import torch

from tests.support.search import UNIT, searching
from tl_dream.models.host import attached
from tl_dream.search.engine import run
from tl_dream.search.other_starts import OtherStarts, ordinary_sentences


def test_the_shipped_sentences_are_ordinary() -> None:
    lines = ordinary_sentences()
    assert len(lines) == len(set(lines)) >= 100
    assert all(line.endswith((" .", " ?", " !")) and line.islower() and 8 <= len(line.split()) <= 20 for line in lines)


@pytest.mark.parametrize("limit", [None, 2])
def test_other_starts_keep_what_is_fixed(encoder: torch.nn.Module, limit: int | None) -> None:
    with attached(encoder) as host:
        search = searching(
            host, UNIT, free=[1, 3, 4], allowed=host.vocabulary.allowed("whole_words"), max_changes=limit
        )
        others, draw, home = OtherStarts(search), torch.Generator().manual_seed(0), search.batch.sentences[0].ids
        found, before = set(), set(search.seen._known[0])
        for _ in range(5):
            found.add(best := run(host, others.best_of(0, draw)))
            new = set(search.seen._known[0]) - before
            assert search.seen.height(0, best) >= max(search.seen.height(0, ids) for ids in new)
            before |= new
        assert len(found) > 1
        for ids in search.seen._known[0]:
            changed = {at for at, (new, old) in enumerate(zip(ids, home, strict=True)) if new != old}
            assert changed <= {1, 3, 4} and len(changed) <= (limit or 3)
            assert all(bool(search.batch.allowed[ids[at]]) for at in changed)
        assert all(run(host, search.seen.returnable(0, list(found))))
