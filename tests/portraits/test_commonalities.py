"""What dreams have in common, against scipy and against hand-made dreams."""

import pytest
import scipy.stats
import torch

import tl_dream as td
from tests.conftest import VOCAB
from tests.support.portraits import A, B, C, goal
from tl_dream.models import attached
from tl_dream.portraits.commonalities import in_common, neighbourhoods, tail


@pytest.mark.parametrize(
    ("x", "n", "c", "m"), [(3, 6, 0, 20), (6, 6, 4, 20), (1, 4, 3, 9), (0, 3, 2, 5), (5, 6, 0, 20)]
)
def test_it_is_fishers_exact_test(x: int, n: int, c: int, m: int) -> None:
    known = scipy.stats.fisher_exact([[x, n - x], [c, m - c]], alternative="greater").pvalue
    assert tail(x, n, c, m) == pytest.approx(known)


def test_near_tokens_are_found_together(known: torch.nn.Module) -> None:
    with attached(known) as host:
        token = VOCAB.index(A)
        near = neighbourhoods(host, [token], 3)[token]
        cosine = torch.cosine_similarity(host.W_E[token][None], host.W_E)
        cosine[~host.vocabulary.allowed()] = -1
        assert near == set(cosine.topk(3).indices.tolist()) and {VOCAB.index(B), VOCAB.index(C)} <= near

        def dreams(*tokens: str) -> list[td.EssentialTokens]:
            return [
                td.essential(known, goal(unit), f"the {word}") for word in tokens for unit in (0 if word == A else 2,)
            ]

        own, other = dreams(A, C, A, C, A, C), [td.essential(known, goal(1), "the dog")] * 20
        common, regions = in_common(host, own, other)
        assert {one.tokens for one in common} == {(A,), (C,)} and [one.dreams for one in common] == [3, 3]
        assert [set(one.tokens) for one in regions] == [{A, C}] and regions[0].dreams == 6
        assert in_common(host, own, own * 3) == ((), ())
        assert in_common(host, own, []) == ((), ())
