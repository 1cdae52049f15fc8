"""The room models.direction: every family is asked which way it attends."""

from pathlib import Path

import pytest
import torch
import transformers

import tl_dream as td
from tests.conftest import HAS_HOOKED, load_causal_bridge, says
from tests.support.models import run, write_roberta
from tl_dream.models import direction
from tl_dream.models.bert_trunk import can_stand_in
from tl_dream.models.host import attached

TEXTS = ["a dog", "a dog sees the moon"]


def boot(hf: torch.nn.Module, tokenizer: object) -> torch.nn.Module:
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers("mine", hf_model=hf, tokenizer=tokenizer, device="cpu").eval()


@pytest.fixture(scope="module")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.mark.skipif(HAS_HOOKED, reason="this TransformerLens has no bridge for RoBERTa")
def test_a_roberta_that_the_user_booted_is_an_encoder(roberta_folder: Path) -> None:
    hf = transformers.RobertaForMaskedLM.from_pretrained(roberta_folder, dtype=torch.float64).eval()
    own = transformers.AutoTokenizer.from_pretrained(roberta_folder)
    rows = own(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = hf(**rows, output_hidden_states=True)
    real = rows["attention_mask"].bool()
    model = boot(hf, own)
    with attached(model) as host:
        assert host.bert and not host.causal and host.masks and host.n_ctx == 32
        assert can_stand_in(host, [host.resolve("block_out", 1)]) is None  # positions that depend on the tokens
        one_hot = torch.nn.functional.one_hot(rows["input_ids"], host.d_vocab).to(host.W_E.dtype) @ host.W_E
    for soft in ({}, {"embeddings": one_hot}):
        found = run(model, TEXTS, {"block_out": 1, "attn_out": 0, "logits": None}, **soft)
        assert (found["block_out"] - expected.hidden_states[2])[real].abs().max() < 1e-9
        assert (found["logits"] - expected.logits)[real].abs().max() < 1e-9
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    assert td.score(model, goal, TEXTS)[0] == pytest.approx(float(td.score(model, goal, TEXTS[0])), abs=1e-9)
    (place,) = td.predict_masked(model, "a<mask>og", top=3).predictions
    holed = own("a<mask>og", return_tensors="pt")
    with torch.no_grad():
        logits = hf(**holed).logits[holed["input_ids"] == own.mask_token_id][0]
    assert [guess.id for guess in place] == logits.topk(3).indices.tolist()
    with attached(model) as host, torch.no_grad():
        tokens = host.vocabulary.allowed().nonzero().flatten()
    every = rows["input_ids"][:1].repeat(len(tokens), 1)
    every[:, 2] = tokens
    with torch.no_grad():
        scores = hf(every, rows["attention_mask"][:1].expand_as(every), output_hidden_states=True).hidden_states[2]
    best = td.token_search(model, goal, "a dog", pos=2, top=1).top[0]
    assert best.score == pytest.approx(float(scores[:, 2, 3].max()), abs=1e-6)


def test_a_bert_decoder_is_causal(tiny_folder: Path) -> None:
    config = transformers.BertConfig.from_pretrained(tiny_folder, is_decoder=True)
    hf = transformers.BertLMHeadModel.from_pretrained(tiny_folder, config=config, attn_implementation="eager").eval()
    own = transformers.AutoTokenizer.from_pretrained(tiny_folder)
    rows = own(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = hf(**rows).logits[rows["attention_mask"].bool()]
    model = boot(hf, own)
    with attached(model) as host:
        assert host.bert and host.causal
    found = run(model, TEXTS, {"logits": None})["logits"][rows["attention_mask"].bool()]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


LLAMA = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA |= {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32}


@pytest.mark.parametrize(("bidirectional", "answer"), [(False, direction.CAUSAL), (True, direction.MASKED)])
def test_another_family_is_tried_out(tiny_folder: Path, bidirectional: bool, answer: str) -> None:
    """Gemma 3 with `use_bidirectional_attention` (EmbeddingGemma) has a decoder's name and an encoder's attention."""
    torch.manual_seed(0)
    kind = transformers.Gemma3TextConfig(**LLAMA, use_bidirectional_attention=bidirectional)
    kind.architectures = ["Gemma3ForCausalLM"]
    hf = transformers.Gemma3ForCausalLM(kind).eval()
    model = boot(hf, transformers.AutoTokenizer.from_pretrained(tiny_folder))
    seen: list[int] = []
    model.hook_dict["blocks.0.hook_out"].add_hook(lambda value, hook: seen.append(1))
    model.train()
    with attached(model) as host:
        assert (host.causal, host.masks) == (answer == direction.CAUSAL, answer == direction.MASKED)
        assert not host.bert
    assert not seen and model.training and len(model.hook_dict["blocks.0.hook_out"].fwd_hooks) == 1
    texts = [(0, 9, 11), (0, 9, 11, 13, 14)]
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    alone, both = (
        td.score(model, goal, td.Prompt(ids=texts[0])),
        td.score(model, goal, [td.Prompt(ids=t) for t in texts]),
    )
    assert both[0] == pytest.approx(float(alone), abs=1e-5)


@pytest.mark.skipif(not HAS_HOOKED, reason="TransformerLens 3 alone")
def test_hooked_models_are_what_their_configuration_says(tiny_folder: Path, tiny_causal_folder: Path) -> None:
    from tests.conftest import load_hooked_transformer

    encoder, decoder = td.load_model(str(tiny_folder), backend="hooked"), load_hooked_transformer(tiny_causal_folder)
    for model, way in ((encoder, "causal"), (decoder, "bidirectional")):
        model.cfg.attention_dir = way
        with attached(model) as host:
            assert host.causal == (way == "causal")
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    td.score(decoder, goal, [" a dog", " a cat"])  # one length: nothing to mask
    with says("sees all positions and heeds no mask", "give one text at a time"):
        td.score(decoder, goal, [" a dog", " a dog sees the moon"])


def test_what_can_not_be_told_is_refused(tiny_folder: Path, tiny_causal_folder: Path) -> None:
    hf = transformers.AutoModelForCausalLM.from_pretrained(tiny_causal_folder)
    model = boot(hf, transformers.AutoTokenizer.from_pretrained(tiny_causal_folder))
    with torch.no_grad():
        hf.transformer.wte.weight.fill_(torch.nan)
    with says("which positions see which can't be told for a TransformerBridge of GPT2LMHeadModel"):
        td.score(model, td.neuron("block_out", layer=1, unit=3), " a dog")


def test_a_bridge_is_tried_out_once_a_configuration(tiny_causal_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_causal_bridge(tiny_causal_folder)
    tried, probed = [], direction._probed
    monkeypatch.setattr(direction, "_probed", lambda model: tried.append(model) or probed(model))
    for eps, times in ((1e-5, 1), (1e-5, 1), (2e-5, 2)):
        model.original_model.config.layer_norm_epsilon = eps  # in place, as a user may
        assert direction.direction_of(model, "bridge") == direction.CAUSAL
        assert len(tried) == times
