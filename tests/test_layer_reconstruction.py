"""One sentence from several layers, what damage leaves, their pictures and the command line."""

import argparse
import json
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import says
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from test_objectives import raw
from test_plotting import assert_nothing_is_cut_or_covered, panel, words

import tl_dream as td
from tl_dream import DreamError, cli, cli_reconstruct
from tl_dream.cli_options import Parser
from tl_dream.damages import read_damage
from tl_dream.hosts import attached
from tl_dream.layer_results import Kept, KeptTokens, LayerReconstructions
from tl_dream.models import forward
from tl_dream.plotting import VERMILLION
from tl_dream.plotting_reconstruction import RIGHT, WRONG, kept_curves, read_back
from tl_dream.reconstruction_results import Reconstruction
from tl_dream.results import Cost

TEXT = "the red dog was old ."


@pytest.fixture(scope="module")
def model(tiny_folder):
    return td.load_model(str(tiny_folder))


@pytest.fixture(scope="module")
def layers(model):
    """Layer 0 as it is, and layer 2 with too little time."""
    good = td.reconstruct_layers(model, TEXT, layers=[0], progress=False)
    poor = td.reconstruct_layers(model, TEXT, layers=[2], budget=120, patience=0, progress=False)
    return LayerReconstructions(good.text, None, (*good.layers, *poor.layers))


# ---------------------------------------------------------------- layers


def test_every_layer_answers_for_itself(model, layers):
    first, last = layers.layers
    assert (first.layer, last.layer) == (0, 2) and first.exact and first.certified
    alone = td.reconstruct(model, TEXT, layer=0, progress=False)
    assert alone.best == first.best and alone.certificate == first.certificate and alone.settings == first.settings
    assert str(layers).count("\n") == 3 and "6/6" in str(layers) and "yes" in str(layers)
    frame = layers.to_frame()
    assert list(frame["layer"]) == [0, 2] and frame["right"][0] == 6 and frame["total"][1] == 6
    assert layers.seconds == pytest.approx(first.cost.seconds + last.cost.seconds)


def test_results_come_back_from_their_files(layers, tmp_path):
    layers.save(tmp_path / "layers.json")
    assert LayerReconstructions.load(tmp_path / "layers.json") == layers
    data = json.loads((tmp_path / "layers.json").read_text())
    keys = {"layer", "text", "tokens", "right", "total", "exact", "certified", "loss", "seconds"}
    assert keys <= set(data["layers"][0]) and data["layers"][0]["text"] == "the red dog was old."
    one = layers.layers[1]
    one.save(tmp_path / "one.json")
    assert Reconstruction.load(tmp_path / "one.json") == one
    with says("'reconstruction', not a 'layer reconstructions' result"):
        LayerReconstructions.load(tmp_path / "one.json")
    data["layers"][0].pop("certificate")
    with says("not a whole"):
        LayerReconstructions.from_json(data)


def test_a_result_as_a_table_and_in_a_notebook(layers):
    one = layers.layers[0]
    frame = one.to_frame()
    assert list(frame["pos"]) == [1, 2, 3, 4, 5, 6] and list(frame["token"]) == list(frame["truth"])
    assert (frame["other"] != frame["token"]).all() and (frame["other_cost"] > 0).all()
    cheapest = [min(swap.cost for swap in swaps) for swaps in one.alternatives]
    assert list(frame["other_cost"]) == cheapest
    errors = [swap.error for swaps in one.alternatives for swap in swaps]
    assert one.certificate.rival.partner is not None or min(errors) == one.certificate.rival.error
    assert "dog" in one._repr_html_() and "certified" in one._repr_html_()


def test_mistakes(model):
    with says("layers = 'some': give \"all\" or a list"):
        td.reconstruct_layers(model, TEXT, layers="some")
    with says("no layer given"):
        td.reconstruct_layers(model, TEXT, layers=[])
    with says("names a layer twice"):
        td.reconstruct_layers(model, TEXT, layers=[0, 0])
    with says("layer 3 does not exist"):
        td.reconstruct_layers(model, TEXT, layers=[3])
    with says("unknown damage 'nois'; nearest: noise"):
        td.reconstruct_layers(model, TEXT, damage="nois 1")
    with says("no text to read back"):
        td.kept_tokens(model, [])
    with says("no damage given"):
        td.kept_tokens(model, TEXT, damages=[])


# ---------------------------------------------------------------- damage


def test_damages():
    target = torch.randn(7, 40, generator=torch.Generator().manual_seed(0)) * 3
    noisy = td.damaged(target, "noise 0.05", seed=1)
    assert torch.equal(noisy, td.damaged(target, "noise 0.05", seed=1))
    assert not torch.equal(noisy, td.damaged(target, "noise 0.05", seed=2))
    share = (noisy - target).square().mean().sqrt() / target.square().mean().sqrt()
    assert float(share) == pytest.approx(0.05, rel=0.15)
    assert torch.equal(td.damaged(target, "noise 0"), target)
    assert torch.equal(td.damaged(target, "bf16"), target.bfloat16().float())
    coarse = td.damaged(target, "int8")
    step = float(target.abs().max()) / 127
    assert float((coarse - target).abs().max()) <= step / 2 * 1.001 and len(coarse.unique()) <= 255
    top = td.damaged(target, "top 3")
    assert ((top != 0).sum(1) == 3).all() and torch.equal(top[top != 0], target[top != 0])
    assert (target.abs().masked_fill(top != 0, 0).amax(1) <= top.abs().masked_fill(top == 0, 9e9).amin(1)).all()
    heads = td.damaged(target.reshape(1, 7, 4, 10), "top 3")
    assert torch.equal(heads.reshape(7, 40), top)
    assert float(td.damaged(torch.zeros(2, 2), "int8").abs().max()) == 0


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        ("noise", "noise takes one number"),
        ("noise x", "noise takes one number"),
        ("noise -1", "a finite number of 0 or more"),
        ("noise nan", "a finite number of 0 or more"),
        ("bf16 3", "bf16 takes no number"),
        ("top 0", "a whole number of 1 or more"),
        ("top 1.5", "a whole number of 1 or more"),
        ("top inf", "a whole number of 1 or more"),
        ("top nan", "a whole number of 1 or more"),
        ("", "give a text such as 'noise 0.05'"),
    ],
)
def test_damages_that_can_not_be(damage, part):
    with says(part):
        read_damage(damage)


def test_damage_that_does_not_fit():
    with says("there are 4 units"):
        td.damaged(torch.ones(2, 4), "top 5")
    with says("only a tensor of floating-point numbers"):
        td.damaged(torch.ones(2, 4).int(), "bf16")
    for damage in ("int8", "bf16", "noise 0.1", "top 2"):
        with says("the target holds NaN or infinite numbers"):
            td.damaged(torch.tensor([[1.0, torch.nan]]), damage)


def test_what_a_layer_keeps(model):
    """Little noise costs nothing, much noise everything; what was not found is not called forgotten."""
    seen = []
    found = td.kept_tokens(
        model, [TEXT, "a cat ."], layers=[0], damages=["noise 0.01", "noise 30"], callback=seen.append, progress=False
    )
    assert found.records == tuple(seen) and len(seen) == 4
    assert found.share(0, "noise 0.01") == found.share(0, "noise 0.01", "right") == 1
    assert found.share(0, "noise 30") < 0.6
    for record in found.records:
        assert record.gap <= record.truth_gap * 1.001 and 0 <= record.right <= record.total
        assert not record.missed or record.kept >= 0
    assert [record.truth_gap for record in found.records[::2]] == pytest.approx([0.01, 0.01], rel=0.3)
    assert found.layers == (0,) and found.damages == ("noise 0.01", "noise 30")
    assert "100.0%" in str(found) and "9 tokens" in str(found)
    assert list(found.to_frame()["total"]) == [6, 6, 3, 3]
    assert KeptTokens.from_json(json.loads(json.dumps(found.to_json()))) == found
    with says("no record of layer 1"):
        found.share(1, "noise 30")
    with says("what = 'left'"):
        found.share(0, "noise 30", "left")


def test_one_layer_and_one_damage_need_no_list(model):
    assert [r.layer for r in td.reconstruct_layers(model, TEXT, layers=1, budget=300, progress=False).layers] == [1]
    found = td.kept_tokens(model, TEXT, layers=0, damages="noise 0.01", rivals=0, progress=False)
    assert found.damages == ("noise 0.01",) and found.layers == (0,)
    assert not any(found.records[0].alternatives) and found.alternatives_frame().empty


def test_what_could_replace_a_kept_token(model):
    """The cheapest other tokens against the damaged target, measured by a plain forward pass."""
    found = td.kept_tokens(model, TEXT, layers=[0], damages=["top 12"], rivals="all", seed=0, progress=False)
    (record,) = found.records
    assert record.kept == 6 and [len(swaps) for swaps in record.alternatives] == [5] * 6
    target = td.damaged(raw(model, TEXT, "block_out", 0), "top 12")
    with attached(model) as host, torch.no_grad():
        name, ids = host.resolve("block_out", 0), host.vocabulary.read(TEXT).ids

        def loss(row):
            return float((forward(host, torch.tensor([row]), [name])[name][0] - target).square().mean())

        own, scale = loss(ids), float(target.square().mean())
        for swaps in record.alternatives:
            assert [swap.cost for swap in swaps] == sorted(swap.cost for swap in swaps)
            for swap in swaps[:2]:
                row = [swap.other_id if i == swap.pos else token for i, token in enumerate(ids)]
                assert swap.cost == pytest.approx((loss(row) - own) / scale, rel=1e-3, abs=1e-6)
    frame = found.alternatives_frame()
    assert list(frame.columns) == ["text", "layer", "damage", "pos", "token", "other", "cost", "error"]
    assert len(frame) == 30 and list(frame["token"][:5]) == ["the"] * 5
    assert (
        "alternatives" not in found.to_frame()
        and KeptTokens.from_json(json.loads(json.dumps(found.to_json()))) == found
    )


def test_a_miss_is_the_searchs(model):
    """With no budget the blind search ends at something worse than the truth, which stays known."""
    (record,) = td.kept_tokens(model, TEXT, layers=[2], damages=["noise 0.01"], budget=60, progress=False).records
    assert record.missed and record.right < record.kept == record.total


# ---------------------------------------------------------------- pictures


@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close("all")


def test_figure_5_shows_right_and_wrong(layers):
    ax = read_back(layers)
    tokens = panel(ax, "tokens")
    shown = words(tokens)
    wrong = layers.layers[1].wrong
    assert wrong and shown.count("dog") == 1 + 1 + (3 not in wrong)
    assert sum(text.startswith("× ") for text in shown) == len(wrong)
    boxes = [patch for patch in tokens.patches if isinstance(patch, Rectangle)]
    assert len(boxes) == 12
    assert sum(to_hex(box.get_facecolor()) == WRONG for box in boxes) == len(wrong)
    assert sum(to_hex(box.get_facecolor()) == RIGHT for box in boxes) == 12 - len(wrong)
    framed = [box for box in boxes if box.get_linewidth() > 1]
    assert len(framed) == len(wrong) and to_hex(framed[0].get_edgecolor()).upper() == VERMILLION
    assert {"6/6", "yes", "no", "layer 0", "layer 2", "recorded", "seconds"} <= set(shown)
    assert_nothing_is_cut_or_covered(ax.figure)


def test_a_long_sentence_goes_on_below(layers):
    one = layers.layers[0]
    words_ = tuple(f"word{i}" for i in range(60))
    long = replace(
        one,
        best=replace(one.best, tokens=words_, ids=tuple(range(60))),
        truth=replace(one.truth, tokens=words_, ids=tuple(range(60))),
        free=tuple(range(60)),
    )
    ax = read_back(long)
    labels = [axes.get_label() for axes in ax.figure.axes]
    assert {"tokens", "tokens 2", "tokens 3"} <= set(labels)
    drawn = [text for label in labels if label.startswith("tokens") for text in words(panel(ax, label))]
    assert all(drawn.count(word) == 2 for word in words_)
    with says("nothing to compare with"):
        read_back(replace(one, truth=None))


def made_kept() -> KeptTokens:
    records = [
        Kept(0, layer, damage, 10, right, kept, right < kept, 0.1, 0.1, "x", 1.0)
        for layer, damage, right, kept in (
            (0, "noise 0.1", 10, 10),
            (0, "noise 1", 8, 9),
            (0, "int8", 10, 10),
            (3, "noise 0.1", 10, 10),
            (3, "noise 1", 4, 4),
            (3, "int8", 7, 9),
        )
    ]
    return KeptTokens("tiny", "block_out", ("a b",), tuple(records), 0, Cost(1, 1, 1.0))


def test_the_curves_are_the_shares():
    ax = kept_curves(made_kept())
    axes = panel(ax, "kept")
    lines = [[float(y) for y in line.get_ydata()] for line in axes.lines]
    assert [1.0, 0.9, 1.0] in lines and [1.0, 0.4, 0.9] in lines and [0.8] in lines and [0.7] in lines
    assert [1.0, 0.9] in lines, "noise is joined"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["noise\n10%", "noise\n100%", "int8"]
    assert len({line.get_marker() for line in axes.lines if line.get_label().startswith("layer")}) == 2
    assert_nothing_is_cut_or_covered(ax.figure)
    with says("the result holds no record"):
        kept_curves(replace(made_kept(), records=()))


# ---------------------------------------------------------------- the command


def test_the_command(tiny_folder, backend, tmp_path, capsys):
    data, figure = tmp_path / "layers.json", tmp_path / "five.png"
    arguments = ["reconstruct", f"--model={tiny_folder}", f"--backend={backend}", "--text", TEXT, "--layers", "0"]
    assert cli.main([*arguments, "--json", str(data), "--figure", str(figure)]) == 0
    out = capsys.readouterr().out
    assert "6/6" in out and f"wrote {data}" in out and f"wrote {figure}" in out
    found = json.loads(data.read_text())["layers"]
    assert [row["layer"] for row in found] == [0] and found[0]["certified"] and found[0]["exact"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert cli.main([*arguments, "--noise", "0.05", "--patience", "0", "--budget", "700"]) == 0
    assert "every target damaged first: noise 0.05" in capsys.readouterr().out
    assert cli.main([*arguments, "--method", "article", "--steps", "2"]) == 0
    assert " no " in capsys.readouterr().out


def test_mistakes_on_the_command_line(capsys, tmp_path):
    for more, part in (
        (["--layers", "x"], "names no layers"),
        (["--noise", "0.1", "--damage", "bf16"], "give one of them"),
        (["--damage", "bf17"], "unknown damage 'bf17'"),
        (["--noise", "-1"], "a finite number of 0 or more"),
        (["--damage", "top inf"], "a whole number of 1 or more"),
        (["--rivals", "some"], "'some' is no count"),
        (["--figure", str(tmp_path / "x.txt")], "unknown figure format"),
        (["--json", str(tmp_path / "no" / "x.json")], "does not exist"),
    ):
        assert cli.main(["reconstruct", "--text", TEXT, *more]) == 2
        assert part in capsys.readouterr().err


def test_layers_on_the_command_line():
    assert cli_reconstruct.layers("all") == "all" and cli_reconstruct.layers("0,3") == [0, 3]
    with pytest.raises(argparse.ArgumentTypeError):
        cli_reconstruct.layers("0;3")
    made = Parser(prog="tl-dream")
    cli_reconstruct.add_commands(made.add_subparsers(required=True))
    assert made.parse_args(["reconstruct", "--text", "a"]).layers == "all"
    with pytest.raises(DreamError):
        made.parse_args(["reconstruct"])
