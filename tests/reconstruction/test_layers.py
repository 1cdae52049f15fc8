"""One sentence from several layers, what damage leaves, their pictures and the command line."""

import json

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.objectives import raw
from tests.support.reconstruction import TEXT
from tl_dream import cli
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.reconstruction.layers import read_damage
from tl_dream.results.layers import KeptTokens


def test_every_layer_answers_for_itself(model, layers):
    first, last = layers.layers
    assert (first.layer, last.layer) == (0, 2) and first.exact and first.certified
    alone = td.reconstruct(model, TEXT, layer=0, progress=False)
    assert alone.best == first.best and alone.certificate == first.certificate and alone.settings == first.settings
    assert str(layers).count("\n") == 3 and "6/6" in str(layers) and "yes" in str(layers)
    frame = layers.to_frame()
    assert list(frame["layer"]) == [0, 2] and frame["right"][0] == 6 and frame["total"][1] == 6
    assert layers.seconds == pytest.approx(first.cost.seconds + last.cost.seconds)


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
    assert sorted(map(str, found.records)) == sorted(map(str, seen)) and len(seen) == 4
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


def test_the_command(tiny_folder, tmp_path, capsys):
    data, figure = tmp_path / "layers.json", tmp_path / "five.png"
    arguments = ["reconstruct", f"--model={tiny_folder}", "--text", TEXT, "--layers", "0"]
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
        (["--layers", "x"], "names no layer"),
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
