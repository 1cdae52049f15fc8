"""The pictures of concepts show exactly the tokens, kinds and numbers of the results; wrong requests are told."""

from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyBboxPatch

from tests.support.editing import CAT, HER, SHE, made_edit, made_row
from tests.support.plotting import assert_nothing_is_cut_or_covered, panel, words
from tl_dream import DreamError
from tl_dream.plotting.concepts import dose_response, edit_table
from tl_dream.plotting.style import DARK_GREEN, RED
from tl_dream.results.edits import Change

ROWS = (
    made_row(0.0, "zero"),
    made_row(-1.0, None),
    made_row(1.0, None, SHE),
    made_row(2.0, None, SHE, HER, CAT),
    made_row(1.0, "random"),
    made_row(2.0, "random", CAT),
    made_row(1.0, "opposite"),
)


def test_the_table_tells_every_word_and_how_it_changed():
    ax = edit_table(made_edit(*ROWS))
    rows = panel(ax, "rows")
    sentence = ["he", "lost", "his", "dog"]
    assert [word for word in words(rows) if word in (*sentence, "she", "her", "cat")] == [
        *("she", "lost", "his", "dog"),  # where + leads
        *sentence,  # where - leads
        *sentence,
        *sentence,
        "she",
        "lost",
        "his",
        "dog",
        "she",
        "lost",
        "her",
        "cat",
    ]
    assert [word for word in words(rows) if word[0] in "+-"] == ["-1", "+1", "+2"]
    assert words(rows).count("0.50") == 3 and "layer 3" in words(rows)
    heads = [word for word in words(rows) if word.startswith(("target", "input"))]
    assert heads == ["target +", "target -", "input"]
    colours = {text.get_text(): to_hex(text.get_color()).upper() for text in rows.texts}
    assert colours["she"] == colours["her"] == DARK_GREEN and colours["cat"] == RED and colours["lost"] == "#000000"
    styles = {text.get_text(): (text.get_fontweight(), text.get_fontstyle()) for text in rows.texts}
    assert styles["she"] == ("bold", "normal") and styles["cat"] == ("normal", "italic")
    frames = [patch for patch in rows.patches if isinstance(patch, FancyBboxPatch)]
    assert sorted(to_hex(frame.get_edgecolor()).upper() for frame in frames) == sorted([DARK_GREEN] * 3 + [RED])
    assert {frame.get_linestyle() for frame in frames if to_hex(frame.get_edgecolor()).upper() == RED} != {"-"}
    assert "+ towards she, - towards he" in "".join(words(panel(ax, "title")))
    key = panel(ax, "legend")
    meanings = ["changed with the concept", "changed otherwise", "did not change", "moved, did not change"]
    assert words(key)[1::2] == meanings and words(key)[::2] == ["green", "red", "black", "black"]
    samples = {text.get_text(): to_hex(text.get_color()).upper() for text in key.texts[::2]}
    assert samples == {"green": DARK_GREEN, "red": RED, "black": "#000000"}
    assert len({frame.get_linestyle() for frame in key.patches if isinstance(frame, FancyBboxPatch)}) == 2
    assert len(key.get_lines()) == 1  # the moved word's line
    assert_nothing_is_cut_or_covered(ax)


def test_the_table_of_some_layers_and_of_a_control():
    made = made_edit(*ROWS, made_row(1.0, None, SHE, layer=5))
    assert "layer 5" in words(panel(edit_table(made), "rows"))
    assert "layer 5" not in words(panel(edit_table(made, layers=[3]), "rows"))
    control = edit_table(made, control="random")
    assert "random direction" in "".join(words(panel(control, "title")))
    assert "she" not in words(panel(control, "rows")) and "cat" in words(panel(control, "rows"))
    assert not any(word.startswith("target") for word in words(panel(control, "rows")))  # it leads nowhere
    against = edit_table(made, control="opposite")
    assert words(panel(against, "rows"))[1:3] == ["target +", "he"]
    assert "+ towards he" in "".join(words(panel(against, "title")))
    assert_nothing_is_cut_or_covered(against)
    figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
    assert edit_table(made, ax=axes[1]) is axes[1]


def test_a_long_sentence_shows_what_is_near_a_change():
    inner = ["he", *(f"longword{i}" for i in range(28)), "dog"]
    tokens = ("[CLS]", *inner, "[SEP]")
    change = Change(30, "dog", "cat", "other", 0.0)
    row = replace(made_row(1.0, None), tokens=(*tokens[:30], "cat", "[SEP]"), changed=(change,))
    ax = edit_table(made_edit(row, tokens=tokens))
    shown = words(panel(ax, "rows"))
    assert {"he", "cat", "longword0", "longword27", "…"} <= set(shown) and "longword12" not in shown
    assert_nothing_is_cut_or_covered(ax)


def test_what_the_table_refuses():
    with pytest.raises(DreamError, match="no layer 7"):
        edit_table(made_edit(*ROWS), layers=[7])
    with pytest.raises(DreamError, match="unknown control 'randomm'; nearest: random"):
        edit_table(made_edit(*ROWS), control="randomm")


def test_dose_and_response_are_means_over_rows():
    made = made_edit(*ROWS, made_row(2.0, None, CAT, layer=5))
    ax = dose_response(made)
    response, gap = panel(ax, "response"), panel(ax, "gap")
    lines = {line.get_label(): line for line in response.get_lines()}
    assert list(lines) == ["random direction", "opposite sign", "the concept"]  # drawn last
    assert [text.get_text() for text in panel(ax, "legend").get_legend().get_texts()][0] == "the concept"
    places = [set(line.get_xdata()) for line in lines.values()]
    assert not places[0] & places[1] and not places[1] & places[2] and not places[0] & places[2]
    assert abs(lines["random direction"].get_xdata()[-1] - 2.0) < 0.2
    faces = {name: line.get_markerfacecolor() for name, line in lines.items()}
    assert faces["random direction"] == faces["opposite sign"] == "none" != faces["the concept"]
    xy = zip(lines["the concept"].get_xdata(), lines["the concept"].get_ydata(), strict=True)
    assert [(float(x), float(y)) for x, y in xy] == [(-1.0, 0.0), (0.0, 0.0), (1.0, 1.0), (2.0, 0.5)]
    assert [float(y) for y in lines["random direction"].get_ydata()] == [0.0, 0.0, 0.0]
    assert (
        len({line.get_marker() for line in lines.values()})
        == len({line.get_linestyle() for line in lines.values()})
        == 3
    )
    assert all(float(y) == 0.5 for line in gap.get_lines() for y in line.get_ydata())
    assert_nothing_is_cut_or_covered(ax)
    many = dose_response([made, made])
    assert "2 sentences" in "".join(words(panel(many, "title")))
    with pytest.raises(DreamError, match="nothing to draw"):
        dose_response([])
