"""`portrait`: of planted units, whose page is known."""

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.portraits import CORPUS, EITHER, FOLLOWED, TOKEN, A, B, C, goal

QUICK = {"budget": 1200, "placebos": 3}


@pytest.fixture(scope="module")
def pages(known: torch.nn.Module) -> dict[int, td.Portrait]:
    return {unit: td.portrait(known, ("mlp_post", 0, unit), CORPUS, **QUICK) for unit in (TOKEN, FOLLOWED)}


def test_the_page_of_a_unit_that_fires_for_a_token(pages: dict[int, td.Portrait], known: torch.nn.Module) -> None:
    page = pages[TOKEN]
    assert page.best.tokens == (A,) and page.tokens.top[0].token == A
    table, (read,) = page.tokens, goal(TOKEN).reads
    alone = td.neuron(read.hook, layer=read.layer, unit=TOKEN, pos=table.place.pos)
    plain = td.token_search(known, alone, table.place.text, pos=table.place.pos, top=len(table.top))
    assert [(one.id, one.score) for one in table.top] == [(one.id, one.score) for one in plain.top]
    assert {token for one in page.dreams if one.essential.whole.score > 1 for token in one.essential.tokens} == {A}
    assert page.corpus.top[0].tokens[page.corpus.top[0].pos] == A
    assert [one.kind for one in page.dreams[:5]] == ["seed 0", "seed 1", "seed 2", "diverse 1", "diverse 2"]
    assert {one.kind for one in page.dreams[5:]} == {"fluent"} and all(one.fluency < 0 for one in page.dreams[5:])
    texts = [one.essential.whole.text for one in page.dreams]
    assert [one.essential.whole.score for one in page.dreams] == pytest.approx(
        td.score(known, goal(TOKEN), texts).tolist(), abs=1e-4
    )


def test_the_page_of_a_unit_that_fires_for_two(pages: dict[int, td.Portrait]) -> None:
    page = pages[FOLLOWED]
    assert page.best.tokens == (A, B) and page.best.pairs[0].kind == "both"
    assert page.dreams[0].essential.tokens == (A, B), "the first starts from the best sentence"


def test_the_histogram_is_of_every_word(pages: dict[int, td.Portrait], known: torch.nn.Module) -> None:
    page = pages[TOKEN]
    hits = td.corpus_search(known, goal(TOKEN), CORPUS, top=len(CORPUS)).top
    values = torch.tensor([value for hit in hits for value in hit.activations[1:-1]])
    assert sum(page.counts) == len(values) and page.edges[-1] == pytest.approx(values.max().item(), abs=1e-5)
    assert page.mean == pytest.approx(values.mean().item(), abs=1e-5)
    assert page.height(page.mean + 2 * page.deviation) == pytest.approx(2)


def test_it_prints_and_comes_back(pages: dict[int, td.Portrait]) -> None:
    page = pages[TOKEN]
    assert td.Portrait.from_json(page.to_json()) == page
    for part in ("random directions", "common", "best tokens at position", "deviations", f"... {A} ..."):
        assert part in str(page)
    assert list(page.to_frame().essential)[0] == page.dreams[0].essential.short


def test_what_is_left_out(known: torch.nn.Module) -> None:
    page = td.portrait(
        known,
        goal(EITHER, 2),
        CORPUS,
        placebos=0,
        fluent=False,
        tokens=False,
        seeds=1,
        budget=600,
        prompt=f"the {C} dog",
    )
    assert page.standing is None and page.tokens is None and len(page.dreams) == 3 and page.chance == 0
    assert "not compared with random directions" in str(page) and not page.distinguished
    assert all(len(one.essential.whole.tokens) == 5 for one in page.dreams)


def test_bad_input(known: torch.nn.Module, unchecked: None) -> None:
    with says("the corpus is empty"):
        td.portrait(known, goal(TOKEN), [])
    with says("never varies", "larger corpus"):
        td.portrait(known, goal(FOLLOWED), ["the dog sees"])
    with says("placebos = 1", "two"):
        td.portrait(known, goal(TOKEN), CORPUS, placebos=1)
    with says("a unit is ('mlp_post', 3)", "(hook, layer, unit)"):
        td.portrait(known, ("mlp_post", 3), CORPUS)
    with says("without the word 'zebra'"):
        td.portrait(known, goal(TOKEN, "zebra"), CORPUS)
    with says("has no placebo"):
        td.portrait(known, goal(TOKEN) + goal(EITHER, 2) * 0 + td.neuron("block_out", layer=0, unit=1), CORPUS)


def test_a_corpus_of_one_sentence_will_do(known: torch.nn.Module) -> None:
    page = td.portrait(known, goal(TOKEN), [f"the {A} is over the sea"], placebos=2, fluent=False, budget=600, seeds=2)
    assert page.best.tokens == (A,) and len(page.corpus.top) == 1
