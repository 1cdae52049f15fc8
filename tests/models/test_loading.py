"""The room models.loading."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoTokenizer, BertForMaskedLM, BertForPreTraining, BertModel

import tl_dream as td
from tests.conftest import HAS_HOOKED, says
from tests.support.models import TEXTS, modules_of, run, save_random, write_roberta
from tl_dream.models import loading
from tl_dream.models.host import attached

LAYOUTS = ["BertModel", "BertForMaskedLM", "BertForPreTraining"]


PRECISION = [(torch.float32, 1e-4), (torch.float64, 1e-10)]


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def layout_folder(tiny_checkpoint: Callable[..., Path], layout: str) -> Path:
    return tiny_checkpoint(layout)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
def test_every_layer_equals_hugging_face(
    layout_folder: Path, backend: str, dtype: torch.dtype, tolerance: float
) -> None:
    hf = BertModel.from_pretrained(layout_folder, dtype=dtype, attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(layout_folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = hf(**tokens, output_hidden_states=True).hidden_states
    assert len(expected) == 4 and expected[0].abs().max() > 0.5
    model = td.load_model(str(layout_folder), backend=backend, dtype=dtype)
    real = tokens["attention_mask"].bool()
    found = [run(model, TEXTS, {"full_embed": None})["full_embed"]]
    found += [run(model, TEXTS, {"block_out": layer})["block_out"] for layer in range(3)]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == dtype
        assert (mine - theirs)[real].abs().max() <= tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
def test_logits_equal_hugging_face_where_the_head_is_trained(
    layout_folder: Path, layout: str, backend: str, dtype: torch.dtype, tolerance: float
) -> None:
    model = td.load_model(str(layout_folder), backend=backend, dtype=dtype)
    if layout == "BertModel":
        with says(
            "the hook 'unembed.hook_out' lies behind the language-model head",
            f"the checkpoint of {layout_folder} (",
            "carries none: its weights are random. Load a checkpoint with its language-model head (BertForMaskedLM)",
        ):
            run(model, TEXTS, {"logits": None})
        return
    hf = {"BertForMaskedLM": BertForMaskedLM, "BertForPreTraining": BertForPreTraining}[layout]
    hf = hf.from_pretrained(layout_folder, dtype=dtype, attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(layout_folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = hf(**tokens)
    expected = out.logits if layout == "BertForMaskedLM" else out.prediction_logits
    difference = run(model, TEXTS, {"logits": None})["logits"] - expected
    assert difference[tokens["attention_mask"].bool()].abs().max() <= tolerance


def test_heads_that_a_checkpoint_lacks_are_refused_under_every_name(
    tiny_checkpoint: Callable[..., Path], backend: str
) -> None:
    bare = td.load_model(str(tiny_checkpoint("BertModel")), backend=backend)
    masked = td.load_model(str(tiny_checkpoint("BertForMaskedLM")), backend=backend)
    with attached(bare) as host:
        assert not host.head_trained
        for name in host.model.hook_dict:
            if name.startswith(("unembed", "mlm_head", "ln_final", "nsp_head")):
                with says("its weights are random"):
                    host.resolve(name)
    with attached(masked) as host:
        assert host.head_trained
        pooler = next(name for name in host.model.hook_dict if name.startswith("pooler."))
        nsp = next(name for name in host.model.hook_dict if name.startswith("nsp_head."))
        with says("lies behind the pooler", "Load a checkpoint with its pooler (BertModel)"):
            host.resolve(pooler)
        with says("lies behind the next-sentence head", "(BertForPreTraining)"):
            host.resolve(nsp)
        assert host.resolve("logits") == "unembed.hook_out"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_load_model_gives_the_dtype_and_evaluation_mode(
    fresh_encoder: Callable[..., torch.nn.Module], backend: str, dtype: torch.dtype
) -> None:
    model = fresh_encoder(dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not any(module.training for module in modules_of(model))
    assert type(model).__name__ == {"hooked": "HookedEncoder", "bridge": "TransformerBridge"}[backend]
    assert next(model.parameters()).device.type == "cpu"


def test_auto_is_the_hooked_encoder_where_there_is_one(tiny_folder: Path) -> None:
    expected = "HookedEncoder" if HAS_HOOKED else "TransformerBridge"
    assert type(td.load_model(str(tiny_folder))).__name__ == expected


def test_backends_that_are_refused(tiny_folder: Path) -> None:
    with says("unknown backend 'hook'; nearest: hooked"):
        td.load_model(str(tiny_folder), backend="hook")
    if not HAS_HOOKED:
        with says('this TransformerLens has no HookedEncoder (it left with 4.0): use backend="bridge"', "<4"):
            td.load_model(str(tiny_folder), backend="hooked")


def test_a_device_that_is_not_there(tiny_folder: Path) -> None:
    with says("device 'gpu' is not available on this machine: "):
        td.load_model(str(tiny_folder), device="gpu")
    assert td.load_model(str(tiny_folder), device=torch.device("cpu")).W_E.device.type == "cpu"


def write_variant(folder: Path, **fields: object) -> Path:
    """A random BERT whose configuration says something unusual."""
    config = transformers.BertConfig.from_pretrained(folder)
    for name, value in fields.items():
        setattr(config, name, value)
    return save_random(transformers.BertForPreTraining(config), folder)


UNUSUAL: list[dict[str, object]] = [
    {"hidden_act": "relu"},
    {"hidden_act": "silu"},
    {"hidden_act": "gelu_new"},
    {"hidden_act": "tanh"},
    {"is_decoder": True},
    {"type_vocab_size": 1},
    {"type_vocab_size": 4},
    {"chunk_size_feed_forward": 3},
    {"tie_word_embeddings": False},
    {"layer_norm_eps": 0.1},
    {"return_dict": False, "output_hidden_states": True, "output_attentions": True},
    {"architectures": ["BertForSequenceClassification"]},
    {"num_attention_heads": 1, "intermediate_size": 3, "pad_token_id": 5},
]


def check_against_hugging_face(
    folder: Path, hf: torch.nn.Module, model: torch.nn.Module, texts: Sequence[str] = TEXTS, within: float = 1e-4
) -> None:
    hf.config.return_dict, hf.config.chunk_size_feed_forward = True, 0
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = hf(**tokens, output_hidden_states=True, use_cache=False)
    found = run(model, texts, {"block_out": 1, "logits": None})
    logits = out["prediction_logits"] if "prediction_logits" in out else out["logits"]
    for mine, theirs in ((found["block_out"], out["hidden_states"][2]), (found["logits"], logits)):
        torch.testing.assert_close(*(x[tokens["attention_mask"].bool()] for x in (mine, theirs)), rtol=0, atol=within)


@pytest.mark.parametrize("fields", UNUSUAL, ids=str)
def test_every_configuration_is_hugging_faces(copied: Path, fields: dict[str, object]) -> None:
    write_variant(copied, **fields)
    model = td.load_model(str(copied))
    hf = BertForPreTraining.from_pretrained(copied, attn_implementation="eager").eval()
    check_against_hugging_face(copied, hf, model)
    unlike = {"hidden_act", "is_decoder", "type_vocab_size"} & set(fields)
    assert type(model).__name__ == ("TransformerBridge" if unlike or not HAS_HOOKED else "HookedEncoder")
    if unlike and HAS_HOOKED:
        (field,) = unlike
        with says(f"HookedEncoder can't represent {field} = {fields[field]!r}", '; use backend="bridge"'):
            td.load_model(str(copied), backend="hooked")


def test_a_difference_that_nobody_thought_of_is_seen(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the mask alone, and in the head alone."""
    if HAS_HOOKED:
        write_variant(copied, hidden_act="relu")
        monkeypatch.setattr(loading, "_unlike_hooked", lambda config: None)
        assert type(td.load_model(str(copied))).__name__ == "TransformerBridge"
        with says("can't be represented exactly: HookedEncoder gives values", 'use backend="bridge"'):
            td.load_model(str(copied), backend="hooked")
    whole = loading.forward

    def maskless(*given: object, mask: object = None, **named: object) -> object:
        return whole(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(loading, "forward", maskless)
    with says("can't be represented exactly: ", "TransformerBridge gives values", "at blocks.0.hook_out"):
        td.load_model(str(copied))


@pytest.mark.parametrize("kind", ["Roberta", "XLMRoberta", "Camembert"])
def test_robertas(tmp_path: Path, kind: str) -> None:
    folder = write_roberta(tmp_path, kind=kind)
    if HAS_HOOKED:
        with says("HookedEncoder can't represent model_type = "):
            td.load_model(str(folder), backend="hooked")
        with says("the installed TransformerLens has no bridge for it: install transformer-lens 4.3 or later"):
            td.load_model(str(folder))
        return
    hf = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float64
    ).eval()
    model = td.load_model(str(folder), dtype=torch.float64)
    check_against_hugging_face(folder, hf, model, ["a dog", "a dog sees the moon"], within=1e-9)
    result = td.dream(model, td.neuron("mlp_post", layer=1, unit=3, pos=2), "a red dog", method=td.Annealing(steps=3))
    assert result.best.score >= result.start.score


def test_a_model_loaded_inside_inference_mode_can_dream(tiny_folder: Path, backend: str) -> None:
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    with torch.inference_mode():
        model = td.load_model(str(tiny_folder), backend=backend)
        td.dream(model, goal, "the red dog", method=td.Annealing(steps=2))
    td.dream(model, goal, "the red dog", method=td.Annealing(steps=2))


def test_a_dtype_or_device_that_holds_no_weights(tiny_folder: Path) -> None:
    with says("dtype = torch.int8: give a floating dtype"):
        td.load_model(str(tiny_folder), dtype=torch.int8)
    with says("device 'meta' holds no numbers"):
        td.load_model(str(tiny_folder), device="meta")


def test_weights_that_are_no_numbers(copied: Path) -> None:
    model = BertForPreTraining.from_pretrained(copied)
    with torch.no_grad():
        model.bert.encoder.layer[2].output.LayerNorm.bias[3] = torch.nan
    model.save_pretrained(copied)
    with says(f"the activations of {str(copied)!r} are not finite in torch.float32: its weights are broken"):
        td.load_model(str(copied))


def test_a_model_that_transformers_made(layout_folder: Path, backend: str) -> None:
    """Its weights are copied: what the user does with it afterwards is not seen."""
    hf = BertModel.from_pretrained(layout_folder)
    model = td.load_model(hf, backend=backend)
    goal = td.neuron("block_out", layer=1, unit=3)
    expected = td.score(td.load_model(str(layout_folder), backend=backend), goal, TEXTS)
    with torch.no_grad():
        hf.embeddings.word_embeddings.weight.zero_()
    assert torch.allclose(td.score(model, goal, TEXTS), expected, atol=1e-6)
    assert str(layout_folder) in td.dream(model, goal, TEXTS[0], budget=100).model
    fresh = BertModel(hf.config)
    fresh.config._name_or_path = fresh.name_or_path = ""
    with says("no tokenizer is known for this BertModel: give tokenizer="):
        td.load_model(fresh)
    given = td.load_model(fresh, tokenizer=AutoTokenizer.from_pretrained(layout_folder), backend=backend)
    assert td.score(given, goal, TEXTS).isfinite().all()
    with says("NoneType is no checkpoint"):
        td.load_model(None)
    with says("tokenizer= goes with a model that transformers made"):
        td.load_model("minilm", tokenizer=given.tokenizer)


def test_a_known_name_that_is_out_of_reach_is_not_said_to_be_unknown() -> None:
    with says("'bert-base-uncased' could not be fetched"):
        td.load_model("bert-base-uncased")
