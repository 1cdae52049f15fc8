"""The room models.host."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    BertTokenizerFast,
)

import tl_dream as td
from tests.conftest import HAS_HOOKED, says
from tests.support.models import TEXTS, modules_of, run, switched_on
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import Host, attached
from tl_dream.results.base import Provenance


def test_causal_models_equal_hugging_face(tiny_causal: torch.nn.Module, tiny_causal_folder: Path) -> None:
    hf = AutoModelForCausalLM.from_pretrained(tiny_causal_folder).eval()
    with attached(tiny_causal) as host:
        ids, _ = host.pad([host.vocabulary.encode(" a red dog sees the moon")])
    with torch.no_grad():
        expected = hf(ids, output_hidden_states=True)
    for layer in (0, 1):
        block = run(tiny_causal, [" a red dog sees the moon"], {"block_in": layer})["block_in"]
        assert (block - expected.hidden_states[layer]).abs().max() <= 1e-4
    logits = run(tiny_causal, [" a red dog sees the moon"], {"logits": None})["logits"]
    assert (logits - expected.logits).abs().max() <= 1e-4


def test_one_hot_soft_tokens_equal_hard_ids(every_model64: torch.nn.Module) -> None:
    texts = ["a red dog sees the moon", "the cat"]
    names = switched_on(every_model64, 1)
    names.pop("embed")
    with attached(every_model64) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode(text) for text in texts])
        one_hot = torch.nn.functional.one_hot(ids, host.d_vocab).double()
        hard = run(every_model64, texts, names)
        soft = run(every_model64, texts, names, embeddings=one_hot @ host.W_E)
        other = run(every_model64, texts, names, embeddings=one_hot.roll(1, 2) @ host.W_E)
    for name in names:
        assert torch.allclose(hard[name], soft[name], rtol=0, atol=1e-12), name
        if name not in ("pos_embed", "token_type_embed"):
            assert not torch.allclose(hard[name], other[name], rtol=0, atol=1e-3), name


@pytest.mark.parametrize("reads", [{"block_out": 1}, {"logits": None}, {"pattern": 1, "z": 0}], ids=str)
def test_gradients_equal_finite_differences(every_model64: torch.nn.Module, reads: dict[str, int | None]) -> None:
    generator = torch.Generator().manual_seed(5)

    def value(host: Host, ids: Tensor, embeddings: Tensor) -> Tensor:
        got = forward(host, ids, [host.resolve(*read) for read in reads.items()], embeddings=embeddings)
        return sum((a * torch.cos(torch.arange(a.numel()).double()).reshape(a.shape)).sum() for a in got.values())

    with attached(every_model64) as host:
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        weights = torch.rand(*ids.shape, host.d_vocab, generator=generator, dtype=torch.float64)
        mixed = (weights / weights.sum(-1, keepdim=True) @ host.W_E).requires_grad_()
        (gradient,) = torch.autograd.grad(value(host, ids, mixed), mixed)
        for _ in range(4):
            ray = torch.randn(mixed.shape, generator=generator, dtype=torch.float64)
            ray = ray / ray.norm()
            with torch.no_grad():
                rise = value(host, ids, mixed + 1e-5 * ray) - value(host, ids, mixed - 1e-5 * ray)
            expected = (gradient * ray).sum()
            assert abs(rise / 2e-5 - expected) <= 1e-6 * gradient.norm()
        assert gradient.norm() > 1e-3


def zero_head(activation: Tensor, hook: object) -> Tensor:
    activation = activation.clone()
    activation[:, :, 1] = 0.0
    return activation


def test_the_users_ablation_is_seen_by_score_and_dream(fresh_every: Callable[..., torch.nn.Module]) -> None:
    """Head 1 of layer 0 zeroed with a plain TransformerLens hook."""
    model = fresh_every(torch.float64)
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    z = td.neuron("z", layer=0, head=1, unit=2, pos=2)
    intact = td.score(model, goal, "the red dog")
    with attached(model) as host:
        name = host.resolve("z", 0)
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
    point = model.hook_dict[name]
    point.add_hook(zero_head)
    expected: list[Tensor] = []
    reader = model.hook_dict[host.resolve("block_out", 1)]
    reader.add_hook(lambda activation, hook: expected.append(activation.detach()))
    with torch.no_grad():
        model(ids)
    ablated = td.score(model, goal, "the red dog")
    assert torch.allclose(ablated, expected[0][:, 2, 3], rtol=0, atol=1e-12)
    assert (ablated - intact).abs().max() > 1e-3
    assert td.score(model, z, "the red dog").tolist() == [0.0]  # what is read has passed the user's edit
    result = td.dream(model, goal, "the red dog", method=td.Annealing(steps=3, evaluate_every=1, candidates=8))
    assert result.start.score == pytest.approx(float(ablated), abs=1e-12)
    assert len(point.fwd_hooks) == 1 and point.fwd_hooks[0].hook.id in point._forward_hooks
    assert len(expected) > 1  # the user's reader saw the dream's passes, and is alive


def test_the_users_edit_at_the_embedding_acts_on_soft_tokens(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every(torch.float64)
    with attached(model) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        embed, out = host.resolve("embed"), host.resolve("block_out", 0)
        model.hook_dict[embed].add_hook(lambda activation, hook: 2 * activation)
        hard = forward(host, ids, [out])[out]
        soft = forward(host, ids, [out, embed], embeddings=host.W_E[ids])
    assert torch.allclose(hard, soft[out], rtol=0, atol=1e-12)
    assert torch.equal(soft[embed], 2 * host.W_E[ids])


def test_permanent_hooks_of_the_user_live_on(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    with attached(model) as host:
        point = model.hook_dict[host.resolve("block_out", 0)]
        seen: list[int] = []
        point.add_hook(lambda activation, hook: seen.append(1), is_permanent=True)
        before = list(point.fwd_hooks)
    goal = td.neuron("block_out", layer=0, unit=3, pos=1)
    td.score(model, goal, ["the red dog", "a cat"])
    td.score(model, goal, "the red dog")
    assert seen == [1, 1] and point.fwd_hooks == before


def test_a_hook_that_must_be_switched_on(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    if "blocks.0.attn.hook_result" not in model.hook_dict:
        pytest.skip("this model has no such hook")
    goal = td.custom(lambda a: a["r"].flatten(1).sum(1), {"r": "blocks.0.attn.hook_result"})
    with says(
        "the hook 'blocks.0.attn.hook_result' of ",
        "did not fire in the forward pass: set model.cfg.use_attn_result = True first",
    ):
        td.score(model, goal, "the red dog")
    if hasattr(model, "original_model"):
        return  # a bridge has other switches
    model.cfg.use_attn_result = True
    td.score(model, goal, "the red dog")
    found = run(model, ["the red dog"], {"result": 0, "attn_out": 0})
    torch.testing.assert_close(found["result"].sum(2) + model.blocks[0].attn.b_O, found["attn_out"])


def test_a_pooler_that_is_never_called(tiny_encoder: torch.nn.Module, backend: str) -> None:
    if backend != "hooked":
        pytest.skip("a bridge calls its pooler")
    goal = td.custom(lambda a: a["p"][:, 0], {"p": "pooler.hook_pooler_out"})
    with says("did not fire in the forward pass: HookedEncoder.forward does not call the pooler or the NSP head"):
        td.score(tiny_encoder, goal, "the red dog")


def test_a_bridge_without_eager_attention_says_why_its_pattern_is_silent(tiny_folder: Path) -> None:
    """transformer-lens 4 forces eager attention, and then there is nothing to say."""
    from transformer_lens.model_bridge import TransformerBridge

    hf = BertForMaskedLM.from_pretrained(tiny_folder, attn_implementation="sdpa")
    own = AutoTokenizer.from_pretrained(tiny_folder)
    model = TransformerBridge.boot_transformers("tiny", hf_model=hf, tokenizer=own, device="cpu")
    goal = td.attention(layer=0, head=1, query=1, key=2)
    if not HAS_HOOKED:
        assert 0 < td.score(model, goal, "the red dog").item() < 1
        return
    with says("did not fire in the forward pass", 'a Hugging Face model with attn_implementation="eager"'):
        td.score(model, goal, "the red dog")


def test_a_model_in_training_mode_gives_evaluation_results(fresh_every: Callable[..., torch.nn.Module]) -> None:
    """Dropout sits in modules that a bridge does not list among its own."""
    model = fresh_every()
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    expected = td.score(model, goal, ["the red dog"] * 3)
    model.train()
    if hasattr(model, "original_model"):
        model.original_model.train()
        assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in modules_of(model))
    kept = next(m for m in model.modules() if isinstance(m, torch.nn.LayerNorm) or "LayerNorm" in type(m).__name__)
    kept.training = False
    before = [module.training for module in modules_of(model)]
    assert torch.equal(td.score(model, goal, ["the red dog"] * 3), expected)
    assert [module.training for module in modules_of(model)] == before and not kept.training
    with says("layer 9 does not exist"):
        td.score(model, td.neuron("block_out", layer=9, unit=3), "the red dog")
    assert [module.training for module in modules_of(model)] == before


def test_a_bridge_that_the_user_built_is_accepted(tiny_folder: Path, tiny_encoder: torch.nn.Module) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    hf = BertForPreTraining.from_pretrained(tiny_folder, attn_implementation="eager")
    own = AutoTokenizer.from_pretrained(tiny_folder)
    model = TransformerBridge.boot_transformers("mine", hf_model=hf, tokenizer=own, device="cpu")
    for goal in (td.neuron("mlp_post", layer=2, unit=7), td.logit("dog", pos=1)):
        torch.testing.assert_close(td.score(model, goal, TEXTS), td.score(tiny_encoder, goal, TEXTS), rtol=0, atol=1e-4)


def test_what_is_no_model(tiny_folder: Path) -> None:
    with says(
        "Linear is not a model this library attaches to: give a HookedEncoder, HookedTransformer "
        'or TransformerBridge as the first argument, or load one with load_model("minilm")'
    ):
        td.score(torch.nn.Linear(2, 2), td.neuron("block_out", layer=1, unit=3), "the red dog")
    with says("BertModel is not a model"):
        td.list_hooks(BertModel.from_pretrained(tiny_folder))


def test_a_model_without_a_tokenizer(fresh_encoder: Callable[..., torch.nn.Module]) -> None:
    model = fresh_encoder()
    model.tokenizer = None
    with says("the model has no tokenizer: set model.tokenizer first"):
        td.list_hooks(model)


def test_the_meter_counts_sentences_and_tokens_times_layers(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        ids, mask = host.pad([host.vocabulary.encode(text) for text in ("the red dog", "cat")])
        name = host.resolve("mlp_post", 1)
        forward(host, ids, [name], mask=mask)
        assert (host.meter.forwards, host.meter.forward_tokens) == (2, 2 * 5 * 2)
        forward(host, ids, [name], mask=mask, embeddings=host.W_E[ids].requires_grad_())
        assert (host.meter.forwards, host.meter.forward_tokens) == (6, 60)
        with torch.no_grad():
            forward(host, ids, [name], mask=mask, embeddings=host.W_E[ids].requires_grad_())
        assert (host.meter.forwards, host.meter.forward_tokens) == (8, 80)


def test_an_open_host_is_passed_through(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host, attached(host) as again:
        assert again is host


@pytest.mark.parametrize("how", ["wrapped", "in place", "a block"])
def test_a_compiled_model_runs_as_the_plain_one(fresh_encoder: Callable[..., torch.nn.Module], how: str) -> None:
    """Hooks do not fire in a graph, and to make one takes seconds."""
    model = fresh_encoder()
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    texts = ["the red dog", "a cat"]
    expected = td.score(model, goal, texts)
    graphs: list[object] = []

    def compiler(graph: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(graph)
        return graph.forward

    if how == "wrapped":
        model = torch.compile(model, backend=compiler)
    else:
        (model if how == "in place" else model.blocks[0]).compile(backend=compiler)
    assert torch.equal(td.score(model, goal, texts), expected)
    assert not graphs


def test_weights_made_in_inference_mode_are_refused(tiny_folder: Path) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    own = AutoTokenizer.from_pretrained(tiny_folder)
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    with torch.inference_mode():
        hf = BertForMaskedLM.from_pretrained(tiny_folder, attn_implementation="eager")
        model = TransformerBridge.boot_transformers("mine", hf_model=hf, tokenizer=own, device="cpu")
    with says("made inside torch.inference_mode(), and no gradient can be taken through such weights"):
        td.score(model, goal, "the red dog")


def test_a_model_without_its_weights_is_refused(fresh_encoder: Callable[..., torch.nn.Module]) -> None:
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    for change in (lambda x: x.to("meta"), lambda x: x.to(torch.float8_e4m3fn)):
        model = fresh_encoder()
        for module in model.modules():
            for name, value in list(module._parameters.items()):
                module._parameters[name] = (
                    None if value is None else torch.nn.Parameter(change(value.data), requires_grad=False)
                )
        with says("the model's embeddings are torch.float", "load its weights, in 16 bits or more"):
            td.dream(model, goal, "the red dog")


def test_a_tokenizer_that_knows_no_word(fresh_encoder: Callable[..., torch.nn.Module]) -> None:
    model = fresh_encoder()
    model.tokenizer = BertTokenizerFast()
    with says("knows no word but its special tokens", "copy these files from where the model is from"):
        td.score(model, td.neuron("block_out", layer=1, unit=3), "the red dog")


def test_results_say_what_they_were_made_with(
    fresh_encoder: Callable[..., torch.nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, hashed = fresh_encoder(), []
    whole = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda *given: hashed.append(1) or whole(*given))

    def origin() -> Provenance | None:
        return td.token_search(model, td.neuron("block_out", layer=1, unit=3), "a cat", pos=1, top=1).provenance

    first = origin()
    assert first is not None and (first.device, first.dtype, first.hooks) == ("cpu", "float32", ())
    assert set(first.versions) == {"tl-dream", "transformer-lens", "transformers", "torch"}
    assert first.versions["torch"] == torch.__version__
    count = len(hashed)
    assert origin() == first and len(hashed) == count, "hashed once"
    with attached(model) as host:
        name = host.resolve("mlp_post", 1)
    model.hook_dict[name].add_hook(lambda value, hook: None)
    assert origin() == replace(first, hooks=(name,))
    next(iter(model.parameters())).data[0] += 1.0
    assert origin().model != first.model
