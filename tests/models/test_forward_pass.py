"""The one forward pass: parity with Hugging Face, soft tokens, padding, early exit, and the user's own hooks."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import AutoTokenizer, BertModel

import tl_dream as td
from tests.conftest import says
from tests.support.models import TEXTS, run, switched_on
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached


def test_minilm_equals_hugging_face(minilm: torch.nn.Module) -> None:
    from tl_dream.models.checkpoints import _minilm_folder

    hf = BertModel.from_pretrained(_minilm_folder(), attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(_minilm_folder())(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = hf(**tokens, output_hidden_states=True).hidden_states
    real = tokens["attention_mask"].bool()
    for layer in range(6):
        mine = run(minilm, TEXTS, {"block_out": layer})["block_out"]
        assert (mine - expected[layer + 1])[real].abs().max() <= 1e-4
    with says("and the checkpoint of minilm (", "carries none"):
        run(minilm, TEXTS, {"logits": None})


def test_soft_tokens_are_cast_to_the_models_dtype(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every(torch.bfloat16)
    with attached(model) as host:
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        soft = host.W_E[ids].float().requires_grad_()
        name = host.resolve("block_out", 1)
        value = forward(host, ids, [name], embeddings=soft)[name]
        (gradient,) = torch.autograd.grad(value.float().sum(), soft)
    assert host.W_E.dtype == torch.bfloat16 and gradient.dtype == torch.float32
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all() and gradient.abs().max() > 0


def test_a_padded_batch_equals_one_at_a_time(every_model64: torch.nn.Module) -> None:
    texts = ["the red dog", "a cat sees the river and the sun", "moon"]
    names = switched_on(every_model64, 1)
    together = run(every_model64, texts, names)
    for row, text in enumerate(texts):
        alone = run(every_model64, [text], names)
        for name in names:
            mine, whole = alone[name][0], together[name]
            if whole.shape[0] == 1:  # positions and segments may come once for all rows
                whole = whole.expand(len(texts), *whole.shape[1:])
            if name in ("pattern", "attn_scores"):
                size = mine.shape[-1]
                theirs = whole[row, :, :size, :size]
            else:
                theirs = whole[row, : mine.shape[0]]
            finite = torch.isfinite(mine)
            assert torch.allclose(mine[finite], theirs[finite], rtol=0, atol=1e-10), (name, text)


def test_padding_without_its_mask_would_be_seen(tiny_encoder64: torch.nn.Module) -> None:
    """So the test above can fail."""
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in TEXTS])
        name = host.resolve("block_out", 1)
        right, wrong = (forward(host, ids, [name], mask=m)[name][0, :6] for m in (mask, None))
    assert (right - wrong).abs().max() > 1e-2


def test_padding_gives_no_gradient_and_no_nan(tiny_encoder64: torch.nn.Module) -> None:
    with attached(tiny_encoder64) as host:
        ids, mask = host.pad([host.vocabulary.encode(text) for text in TEXTS])
        soft = host.W_E[ids].requires_grad_()
        name = host.resolve("block_out", 2)
        out = forward(host, ids, [name], mask=mask, embeddings=soft)[name]
        (gradient,) = torch.autograd.grad(out[mask].square().sum(), soft)
    assert torch.isfinite(gradient).all() and gradient[mask].abs().amin(-1).max() > 0
    assert gradient[~mask].abs().max() == 0


def test_early_exit_is_bit_identical_and_runs_nothing_deeper(every_model64: torch.nn.Module) -> None:
    fired: list[str] = []
    whole: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: object) -> None:
        whole["value"] = activation.detach().clone()

    with attached(every_model64) as host, torch.no_grad():
        read, deeper = host.resolve("mlp_post", 0), host.resolve("mlp_out", 0)
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        points = every_model64.hook_dict
        points[read].add_hook(keep)
        points[deeper].add_hook(lambda activation, hook: fired.append("deeper"))
        points[host.resolve("logits")].add_hook(lambda activation, hook: fired.append("logits"))
        try:
            every_model64(ids)
            full, fired_in_full = whole["value"], list(fired)
            fired.clear()
            found = forward(host, ids, [read])[read]
            assert fired == []
            forward(host, ids, [read, deeper])
            assert fired == ["deeper"]
        finally:
            for name in (read, deeper, host.resolve("logits")):
                for handle in list(points[name].fwd_hooks):
                    handle.hook.remove()
                points[name].fwd_hooks.clear()
    assert fired_in_full == ["deeper", "logits"] and torch.equal(found, full)


def test_hooks_may_be_read_in_any_order_and_twice(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        late, early = host.resolve("block_out", 2), host.resolve("embed")
        got = forward(host, ids, [late, early, late])
    assert list(got) == [early, late] or set(got) == {early, late}
    assert torch.equal(got[early], host.W_E[ids])


def test_list_hooks_refuses_texts_as_everything_does(tiny_encoder: torch.nn.Module) -> None:
    with says("the sentence '' is empty or holds special tokens only"):
        td.list_hooks(tiny_encoder, "")
    with says("the sentence has 42 tokens with its special ones, the model reads 32"):
        td.list_hooks(tiny_encoder, "dog " * 40)
