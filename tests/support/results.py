"""What the tests of several rooms share: results."""

from dataclasses import replace

from tl_dream import Dream
from tl_dream.results.base import Cost
from tl_dream.results.dreams import History, Run, ScoredText

START = ScoredText("red dog", ("[CLS]", "red", "dog", "[SEP]"), (4, 30, 41, 5), 1.25)


BEST = ScoredText("red <b>", ("[CLS]", "red", "<b>", "[SEP]"), (4, 30, 42, 5), 3.5, step=10)


def history(records: int = 3) -> History:
    steps = range(records)
    return History(
        step=tuple(5 * i for i in steps),
        temperature=tuple(1.0 / (i + 1) for i in steps),
        soft_score=tuple(1.0 + i for i in steps),
        hard_score=tuple(0.5 + i for i in steps),
        tokens=tuple(START.tokens for _ in steps),
        weights=tuple((1.0, 1.0, 0.1 * i, 1.0) for i in steps),
        top_tokens=tuple((("dog", "cat"),) for _ in steps),
        top_weights=tuple(((0.75, 0.25),) for _ in steps),
        free=(2,),
    )


def dream(**changes: object) -> Dream:
    whole = Dream(
        model="tiny (HookedEncoder)",
        objective="neuron('mlp_post', layer=1, unit=3)",
        prompt={"text": "red dog", "free": [2]},
        settings={"steps": 10, "allowed": "ascii", "decay": None},
        seed=7,
        start=START,
        best=BEST,
        soft_score=3.0,
        history=history(),
        cost=Cost(forwards=1234, forward_tokens=98765, seconds=1.5),
        others=(Run(START, START, None, history(1)),),
    )
    return replace(whole, **changes)
