"""The shipped templates and the loaders: what is read, in which order, and what is refused, sentence by sentence."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import says
from tl_dream.concepts.examples import TEMPLATES, Example, Examples, load_templates, read_examples, read_pairs

HE = ["he sees the dog", "the cat and he run", "so he said"]


SHE = [text.replace("he ", "she ", 1) if text.startswith("he") else text.replace(" he", " she") for text in HE]


@pytest.mark.parametrize(("name", "least"), [("he_she", 200), ("singular_plural", 100)])
def test_templates_are_pairs_that_differ_in_the_concept_word_alone(name: str, least: int) -> None:
    found = load_templates(name)
    assert (found.negative, found.positive) == TEMPLATES[name]
    frames = []
    for side in (False, True):
        items = found.side(side)
        assert len(items) >= least
        frames.append(sorted(f"{item.text[: item.span[0]]}_{item.text[item.span[1] :]}" for item in items))
    assert frames[0] == frames[1] and len(set(frames[0])) == len(frames[0])
    assert all(item.word for item in found.items) and found.duplicates == 0


def test_he_and_she_stand_in_many_places_and_nothing_else_is_gendered() -> None:
    items = load_templates("he_she").side(True)
    assert {item.word for item in items} == {"she"}
    assert len({len(item.text[: item.span[0]].split()) for item in items}) >= 8
    other = re.compile(r"\b(he|him|his|her|hers|man|woman|boy|girl|mother|father|king|queen)\b")
    assert not [item.text for item in items if other.search(item.text)]
    assert not [item.text for item in items if len(re.findall(r"\bshe\b", item.text)) != 1]


def test_the_order_does_not_matter_and_duplicates_count_once() -> None:
    one = read_examples(SHE, HE)
    other = read_examples([*reversed(SHE), SHE[0]], HE[1:] + HE[:1])
    assert [item.key for item in one.items] == [item.key for item in other.items]
    assert (one.duplicates, other.duplicates) == (0, 1)
    assert (one.name, one.negative, one.positive) == ("he -> she", "he", "she")
    turned = read_examples(HE, SHE)
    assert [item.text for item in turned.items] == [item.text for item in one.items]
    assert [item.positive for item in turned.items] == [not item.positive for item in one.items]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "she").write_text("# mine\n\n" + "\n".join(SHE) + "\n", encoding="utf-8")
    (tmp_path / "he").write_text("\n".join(HE), encoding="utf-8")
    found = read_examples(tmp_path / "she", str(tmp_path / "he"))
    assert [item.key for item in found.items] == [item.key for item in read_examples(SHE, HE).items]
    (tmp_path / "pairs").write_text("# mine\nthe {dog|dogs} ran\n\n{ cat | cats } sat\n", encoding="utf-8")
    pairs = read_pairs(tmp_path / "pairs")
    assert [(item.text, item.word, item.positive) for item in pairs.items] == [
        ("cat sat", "cat", False),
        ("cats sat", "cats", True),
        ("the dog ran", "dog", False),
        ("the dogs ran", "dogs", True),
    ]
    assert (pairs.negative, pairs.positive) == ("negative", "positive")


def test_where_the_concept_is_read() -> None:
    marked = read_examples(["{she} said she ran"], ["{he} said he ran"])
    assert [item.span for item in marked.items] == [(0, 2), (0, 3)]
    assert [item.text for item in marked.items] == ["he said he ran", "she said she ran"]
    placed = read_examples(["a good dog"], ["a bad dog"], positive_pos=2, negative_pos="bad")
    assert [(item.pos, item.span) for item in placed.items] == [("bad", None), (2, None)]
    assert placed.name == "bad -> positive"
    whole = read_examples(["a good dog"], ["a bad dog"], positive_pos="all", negative_pos="all")
    assert whole.name == "negative -> positive"
    masks = read_examples(["a good [MASK]"], ["a bad [MASK]"], positive_pos="[MASK]", negative_pos="[MASK]")
    assert masks.name == "negative -> positive"


def test_the_concept_word_missing_or_repeated_is_listed() -> None:
    sentences = [*SHE, *(f"she can {word}" for word in ("run", "swim", "sing")), "she said she can", "nobody ran"]
    with says(
        "missing or repeated in 2 sentences",
        "item 7 ('she' 2 times, as words 1 and 3): she said she can",
        "item 8 ('she' missing)",
    ):
        read_examples(sentences, HE)
    with says("missing or repeated in 1 sentence:", "negatives, item 4"):
        read_examples(SHE, [*HE, "nobody"])
    many = [*(f"she {i}" for i in range(40)), *(f"she and she {i}" for i in range(10))]
    with says("in 10 sentences", "and 2 more"):
        read_examples(many, [f"he {i}" for i in range(40)])


def test_a_long_fault_is_listed_whole_but_for_its_sentence(tmp_path: Path) -> None:
    long = " ".join(f"word{i}" for i in range(40))
    (tmp_path / "she").write_text("\n".join([*SHE, f"she and she {long}"]), encoding="utf-8")
    with says(
        "positives, line 4 ('she' 2 times, as words 1 and 3): she and she word0 word1 word2 ",
        "word6.... ",
        "Mark it with braces ({she} is a doctor), or leave the sentence out",
    ):
        read_examples(tmp_path / "she", HE)
    (tmp_path / "pairs").write_text(f"{{he|she}} ran\n{{he}} ran {long}\n", encoding="utf-8")
    with says(
        "two words that differ", "pairs, line 2: {he} ran word0", "...", "such as {he|she} is a doctor, or leave"
    ):
        read_pairs(tmp_path / "pairs")
    with says(
        "positives, item 1 (2 times braces): {she} or {she} word0", "...; ", "Mark the concept word alone"
    ) as told:
        read_examples([f"{{she}} or {{she}} {long}", "{} ran"], HE)
    assert "positives, item 2 (nothing in them): {} ran" in str(told.value)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: load_templates("he_shee"), ("unknown concept 'he_shee'", "he_she")),
        (lambda: read_examples(SHE, []), ("the negative set is empty",)),
        (lambda: read_examples([], HE), ("the positive set is empty",)),
        (lambda: read_examples(SHE, list(reversed(SHE))), ("the two sets are identical (3 sentences)",)),
        (lambda: read_examples([*SHE, "he ran"], [*HE, "he ran"]), ("1 sentence is in both sets", "he ran")),
        (lambda: read_examples(["a dog", "the cat"], ["my tree", "your sun"]), ("mark it with braces",)),
        (lambda: read_examples(["{she} or {she}"], HE), ("one word is marked", "positives, item 1")),
        (lambda: read_examples(["{} ran"], HE), ("one word is marked",)),
        (lambda: read_examples("no such file", HE), ("can't read 'no such file': No such file",)),
        (lambda: Examples.of([]), ("the negative set is empty",)),
    ],
)
def test_what_is_refused(call: Callable[[], object], parts: tuple[str, ...]) -> None:
    with says(*parts):
        call()


@pytest.mark.parametrize("line", ["he ran", "{he|she} and {he|she}", "{he} ran", "{he|} ran", "{he|he} ran", "{a|b|c}"])
def test_what_is_no_pair(tmp_path: Path, line: str) -> None:
    (tmp_path / "pairs").write_text(f"{{he|she}} ran\n{line}\n", encoding="utf-8")
    with says("a pair has exactly one", f"line 2: {line}"):
        read_pairs(tmp_path / "pairs")
    (tmp_path / "pairs").write_text("# nothing\n", encoding="utf-8")
    with says("holds no pair"):
        read_pairs(tmp_path / "pairs")


def test_a_sentence_may_be_in_both_sets_at_different_places() -> None:
    both = [Example("a b", False, (0, 1)), Example("a b", True, (2, 3))]
    assert len(Examples.of(both).items) == 2


def test_braces_say_which_of_several_words_a_position_means() -> None:
    sets = read_examples(["a b c a", "a {b} c b", "f{x} b"], ["d e {d} f", "d e"], positive_pos="b", negative_pos="d")
    assert [(item.text, item.span, item.pos) for item in sets.items] == [
        ("a b c a", None, "b"),
        ("a b c b", (2, 3), None),
        ("d e", None, "d"),
        ("d e d f", (4, 5), None),
        ("f{x} b", None, "b"),
    ]
