"""The room editing.sentence_pool."""

import pytest
import torch

from tests.conftest import VOCAB
from tests.support.editing import activation, aims_of
from tl_dream.editing.sentence_pool import MovedTarget, SentencePool
from tl_dream.models.host import attached
from tl_dream.search.engine import run


def test_the_pool_measures_what_a_plain_loop_measures(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        names = [host.resolve("block_out", layer) for layer in (0, 2)]
        sentence = host.vocabulary.read("the dog was red")
        aims = aims_of(encoder, "the dog was red", names)
        pool = SentencePool(host, sentence, aims, host.vocabulary.allowed())
        rows = [tuple(host.vocabulary.encode(t)) for t in ("the cat was red", "a dog was warm", "the dog was red")]
        run(host, pool.add([*rows, rows[0]]))
        assert pool.rows == [sentence.ids, rows[0], rows[1]]
        origin = {name: activation(encoder, name, list(sentence.ids)) for name in names}
        for number, row in enumerate(pool.rows):
            for i, aim in enumerate(aims):
                found = activation(encoder, aim.name, list(row))
                expected = float((found - origin[aim.name] - aim.change).square().mean())
                assert float(pool.losses[number, i]) == pytest.approx(expected, rel=1e-4, abs=1e-7)
                assert pool.exact(number, i) == pytest.approx(expected, rel=1e-4, abs=1e-7)
                moved = float((found - origin[aim.name]).square().mean().sqrt())
                assert float(pool.moved(aim.name)[number]) == pytest.approx(moved, rel=1e-4, abs=1e-6)


def test_the_pool_takes_real_text_alone(encoder: torch.nn.Module) -> None:
    """What does not tokenize back to itself is not measured; what is not allowed is no result."""
    with attached(encoder) as host:
        name = host.resolve("block_out", 1)
        sentence = host.vocabulary.read("the dog was red")
        goal = list(host.vocabulary.encode("the cat was red"))
        change = activation(encoder, name, goal) - activation(encoder, name, list(sentence.ids))
        pool = SentencePool(
            host, sentence, [MovedTarget(name, change)], host.vocabulary.allowed("no_special no_unused")
        )
        unreal = (sentence.ids[0], VOCAB.index("a"), VOCAB.index("##n"), *sentence.ids[3:])  # "an" is a word
        run(host, pool.add([unreal, tuple(goal)]))
        assert pool.find(unreal) is None and pool.best() == [1]
        few = SentencePool(host, sentence, [MovedTarget(name, change)], host.vocabulary.allowed(["dog", "sun"]))
        run(host, few.add([tuple(goal)]))
        assert few.best() == [0]
