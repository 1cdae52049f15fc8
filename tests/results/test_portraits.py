"""What a unit looks for, as results tell it."""

from tests.support.hostile import RESULTS
from tl_dream.results.corpora import EssentialTokens, gapped


def test_gaps_stand_for_words_left_out() -> None:
    tokens = ("[CLS]", "the", "prison", "is", "a", "nat", "##ation", "[SEP]")
    free = (1, 2, 3, 4, 5, 6)
    assert gapped(tokens, (2, 6), free) == "... prison ... ##ation"
    assert gapped(tokens, (1, 2), free) == "the prison ..."
    assert gapped(tokens, (), free) == "..." and gapped(tokens, free, free) == "the prison is a nat ##ation"
    assert gapped(tokens, (3,), (3, 4)) == "is ..."


def test_essential_tokens_are_told_by_share() -> None:
    (made,) = [one for one in RESULTS if isinstance(one, EssentialTokens)]
    assert made.drops == (0.75, 1.0) and made.tokens == ("dog",) and made.short == "... dog"
    assert made.share(0.75) == 0.5  # of 1.25 less 0.25
    assert "these 1 of 2 tokens keep 100% of what the words add (no fewer do, all were tried)" in str(made)
    assert "only together: red (1) and dog (2), 50%" in str(made)
