"""What the tests of several rooms share: models."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers
from torch import Tensor
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tl_dream.models.forward_pass import forward
from tl_dream.models.hooks import LAYERED, WHOLE
from tl_dream.models.host import attached

TEXTS = ["the red dog .", "i hate kickshaws and love my small old house ."]


def run(
    model: torch.nn.Module, texts: Sequence[str], hooks: dict[str, int | None], **inputs: Tensor
) -> dict[str, Tensor]:
    """Short name -> activation of a padded batch; plain ids unless `embeddings` are given."""
    with attached(model) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in texts])
        names = {hook: host.resolve(hook, layer) for hook, layer in hooks.items()}
        got = forward(host, ids, list(names.values()), mask=None if mask.all() else mask, **inputs)
    return {hook: got[name] for hook, name in names.items()}


def switched_on(model: torch.nn.Module, layer: int | None) -> dict[str, int | None]:
    """Every short name that this model has and that fires by itself."""
    with attached(model) as host:
        column = host._column
    layered = {name: layer for name, row in LAYERED.items() if row[column] and name != "result"}
    return {**{name: None for name, row in WHOLE.items() if row[column]}, **layered}


def modules_of(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    yield from model.modules()
    if hasattr(model, "original_model"):
        yield from model.original_model.modules()


def write_roberta(folder: Path, *, layers: int = 2, kind: str = "Roberta") -> Path:
    """A random RoBERTa (or "XLMRoberta", "Camembert") with a byte-level BPE tokenizer of letters."""
    made = transformers.RobertaTokenizerFast(
        vocab={
            token: i
            for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *bytes_to_unicode().values(), "<mask>"])
        },
        merges=[],
        model_max_length=32,
    )
    made.save_pretrained(folder)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(made),
        hidden_size=24,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=40,
        max_position_embeddings=34,
        type_vocab_size=1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    model = getattr(transformers, f"{kind}ForMaskedLM")(config)
    return save_random(model, folder)


def save_random(model: transformers.PreTrainedModel, folder: Path) -> Path:
    """Write a model with weights that are drawn anew, so large that every part of it counts."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw) + (parameter.ndim == 1))
    model.save_pretrained(folder)
    return folder
