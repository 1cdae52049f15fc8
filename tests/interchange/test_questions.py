"""The room interchange.questions: formulas and the article's numbers."""

import pytest

import tl_dream as td
from tl_dream.interchange.questions import as_formula, as_ids, as_text

TOKENS = ("[CLS]", "the", "red", "##dish", "dog", "[SEP]")


@pytest.mark.parametrize(
    ("goal", "ids"),
    [
        (td.neuron("block_out", layer=2, unit=7, pos=4), (2, 7, 4)),
        (td.neuron("mlp_post", layer=2, unit=7, pos="dog"), (2, 7, 4)),
        (td.normalized(td.neuron("block_out", layer=2, unit=7)), (2, 7, None)),
        (td.neuron("z", layer=0, head=1, unit=3, pos=[1, 2]), (0, 3, None)),
        (td.logit("dog", pos=2), (None, None, 2)),
        (td.neuron("z", layer=0, unit=3) + td.neuron("z", layer=1, unit=2), (None, None, None)),
        ("my function (of acts", (None, None, None)),
    ],
)
def test_what_a_formula_asks_for(goal: object, ids: tuple[int | None, ...]) -> None:
    assert tuple(as_ids(str(goal), TOKENS).values()) == ids


@pytest.mark.parametrize("ids", [(2, 7, 4), (2, None, 4), (2, 7, None), (0, None, None), (None, 1, 1)])
@pytest.mark.parametrize("normalize", [True, False])
def test_there_and_back(ids: tuple[int | None, ...], normalize: bool) -> None:
    asked = dict(zip(("layer_id", "neuron_id", "word_id"), ids, strict=True))
    assert as_ids(as_formula(asked, normalize), TOKENS) == asked


def test_text() -> None:
    assert as_text(TOKENS) == "the reddish dog"
