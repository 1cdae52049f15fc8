"""What must be met: frames without words, and how far tokens are from the numbers recorded."""

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tl_dream.models.host import attached
from tl_dream.reconstruction.problem import read_target
from tl_dream.reconstruction.targets import frame, masked, record, shape_at
from tl_dream.search.engine import run

TEXT = "the cat sees a moon"


def test_frames(model: torch.nn.Module) -> None:
    with attached(model) as host:
        mask = host.vocabulary.tokenizer.mask_token_id
        made = frame(host, 6)
        assert made.tokens == ("[CLS]", *["[MASK]"] * 4, "[SEP]") and made.free == (1, 2, 3, 4)
        given = masked(host, host.vocabulary.read(td.Prompt(TEXT, [2])))
        assert given.ids[2] == mask and given.ids.count(mask) == 1 and given.tokens[3] == "see"
        for length in (2, 33):
            with says(f"a length of {length!r} tokens is impossible", "has 3 to 32"):
                frame(host, length)


def test_shapes(model: torch.nn.Module) -> None:
    with attached(model) as host:
        found = {name: shape_at(host, host.resolve(name, 1)) for name in ("block_out", "z", "mlp_post")}
        assert found == {"block_out": (24,), "z": (4, 6), "mlp_post": (40,)}
        with says("has no row of units for every position"):
            shape_at(host, host.resolve("pattern", 1))
        with says("does not depend on the tokens"):
            shape_at(host, host.resolve("pos_embed", None))


def test_the_loss_is_the_mean_squared_error_and_the_text_itself_has_none(model: torch.nn.Module) -> None:
    with attached(model) as host:
        name, sentence = host.resolve("mlp_post", 1), host.vocabulary.read(TEXT)
        values = record(host, sentence, name)
        target = read_target(host, values, name, None, None, None).target(host, masked(host, sentence))
        own = target.searched(host, sentence)
        assert own.tolist() == list(sentence.ids[1:-1])
        assert set(target.searched(host).tolist()) == {host.vocabulary.tokenizer.mask_token_id}
        other = list(sentence.ids)
        other[2] = host.vocabulary.encode("dog")[1]
        found = run(host, target.compare(host, torch.tensor([sentence.ids, other])[:, list(sentence.free)]))
        assert target.matched(found).tolist() == [True, False] and target.loss(found.errors[0]) < 1e-10
        plain = (record(host, host.vocabulary.read(td.Prompt(ids=other)), name) - values).square().mean()
        assert target.loss(found.errors[1]) == pytest.approx(float(plain), rel=1e-5)
        assert float(td.score(host, target.goal, td.Prompt(ids=other))[0]) == pytest.approx(-float(plain), rel=1e-5)
