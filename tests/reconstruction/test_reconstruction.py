"""Reconstruction: the text comes back, certificates are true, and every kind of target and mistake has its answer."""

import pytest
import torch

import tl_dream as td
from tests.support.reconstruction import QUICK, READ, TEXT, error_of, tensor_of
from tl_dream.models.host import attached
from tl_dream.reconstruction.reconstruction import SearchSettings


@pytest.mark.parametrize("layer", [0, 1])
def test_a_text_comes_back_and_is_certified(tiny_encoder, layer):
    result = td.reconstruct(tiny_encoder, TEXT, layer=layer, **QUICK)
    assert result.text == READ and result.exact and result.certified and result.stopped == "matched"
    assert (result.right, result.total) == (6, 6) and result.wrong == () and result.missed is False
    measured = error_of(tiny_encoder, result.best.ids, tensor_of(tiny_encoder, layer=layer), layer)
    assert result.certificate.error == pytest.approx(measured, abs=1e-6)
    assert result.layer == layer and result.cost.forwards > 0 and result.seed == 0


def test_a_saved_activation_is_enough(model):
    """No truth is given; a batch axis of one does not matter."""
    target = tensor_of(model)
    for given in (target, target[None], target.double()):
        result = td.reconstruct(model, given, layer=0, **QUICK)
        assert result.text == READ and result.certified
        assert result.truth is None and result.right is None and result.exact is None and result.missed is None


def test_the_activation_that_run_with_cache_gives(model):
    _, cache = model.run_with_cache(TEXT)
    with attached(model) as host:
        name = host.resolve("block_out", 0)
    result = td.reconstruct(model, cache[name], hook=name, **QUICK)
    assert result.text == READ and result.certified and result.hook == name


@pytest.mark.parametrize("hook", ["attn_out", "z", "q", "mlp_post", "resid_post"])
def test_other_hooks(model, hook):
    target = tensor_of(model, layer=0, hook=hook)
    for given in (target, target.flatten(1)) if hook == "z" else (target,):
        result = td.reconstruct(model, given, hook=hook, layer=0, **QUICK)
        assert result.text == READ and result.certified, str(result)


def test_hooks_before_the_layers(model):
    for hook in ("embed", "full_embed"):
        result = td.reconstruct(model, TEXT, hook=hook, **QUICK)
        assert result.certified and result.exact and result.layer is None


def test_causal_models(tiny_causal):
    result = td.reconstruct(tiny_causal, " the red dog sees a moon", layer=0, **QUICK)
    assert result.exact and result.certified, str(result)


def test_the_articles_method(model):
    result = td.reconstruct(model, "a red dog", layer=0, method="article", steps=150, **QUICK)
    assert result.method == "article" and result.settings["steps"] == 150 and result.history is not None
    assert result.history.temperature[0] == 2.0 and result.history.step[-1] == 150
    assert result.right is not None and result.cost.forwards >= 300
    short = td.reconstruct(model, "a red dog", layer=0, method="article", steps=1, **QUICK)
    assert not short.exact and not short.certified and short.stopped == "steps"


def test_the_articles_method_returns_what_its_sentence_was(model):
    """Not the frame of [MASK] tokens around it."""
    result = td.reconstruct(model, torch.zeros(8, 24) + 0.1, layer=0, method="article", steps=1, **QUICK)
    assert result.tokens in result.history.tokens and "[MASK]" not in result.tokens
    assert result.loss == pytest.approx(-max(result.history.hard_score), rel=1e-4)


def test_the_articles_method_keeps_a_better_start(model):
    target = tensor_of(model)
    result = td.reconstruct(model, target, TEXT, layer=0, method="article", steps=1, **QUICK)
    assert result.text == READ and result.certified and result.changed == ()
    poor = "the the the the the the"
    other = td.reconstruct(model, target, poor, layer=0, method="article", steps=60, **QUICK)
    assert other.loss < -other.start.score and other.text != poor


def test_allowed_tokens(model):
    result = td.reconstruct(model, tensor_of(model), layer=0, allowed=["cat", "the"], patience=0, **QUICK)
    assert set(result.tokens[1:-1]) <= {"cat", "the"} and not result.certified


def test_a_receipt_tells_what_matters_to_the_method() -> None:
    assert SearchSettings(budget=7).settings == {"starts": 1, "patience": 2, "rivals": None, "budget": 7}
    assert SearchSettings(method="article", rivals=3).settings == {"steps": 3000, "starts": 1, "rivals": 3}
