"""Make a TransformerLens model of a checkpoint, and see that it computes what Hugging Face's does."""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tl_dream._arguments import one_of
from tl_dream._errors import DreamError, require
from tl_dream.models.checkpoints import FAMILIES, Checkpoint, in_a_line, read_checkpoint
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.models.isolation import alone

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}
"""Largest difference to Hugging Face, relative to the largest activation (measured: 1e-6 in float32)."""
LOOSE = 0.05
"""The same in half precision."""


@alone
def load_model(
    name: Any,
    *,
    tokenizer: Any = None,
    backend: str = "auto",
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Load an encoder as a TransformerLens model, in evaluation mode.

    What is made is compared with Hugging Face's own model on two random sentences, one of them padded: a checkpoint
    that can't be represented exactly is refused.

    Args:
        name: "minilm" (all-MiniLM-L6-v2 from the packaged checkpoint, its hash checked), a Hugging Face name, or a
            local folder: a BERT in the layouts BertModel, BertForMaskedLM and BertForPreTraining, and where the
            installed TransformerLens has a bridge for it (4.3 has) a RoBERTa, XLM-RoBERTa or CamemBERT. Or such a
            model itself, as transformers made it: its weights are copied.
        tokenizer: of a model that transformers made; None loads the one of the name it was loaded by.
        backend: "hooked" for HookedEncoder (transformer-lens 3.x), "bridge" for TransformerBridge, "auto" for
            HookedEncoder where the installed TransformerLens has it and it computes the same.
        device: where to put the model; None keeps it on the CPU.
        dtype: of all weights.

    Returns:
        A HookedEncoder or TransformerBridge. Where the checkpoint carries no MLM head, whatever needs logits refuses.

    Raises:
        DreamError: an unknown name or backend, a checkpoint that is broken, incomplete or of another architecture, or
            one that no backend represents exactly.

    Examples:
        >>> bert = td.load_model("minilm", device="cpu")
    """
    backends = ("auto", "hooked", "bridge")
    one_of("backend", backend, backends)
    encoder = _hooked_encoder()
    require(
        backend != "hooked" or encoder is not None,
        'this TransformerLens has no HookedEncoder (it left with 4.0): use backend="bridge", or install '
        "transformer-lens<4",
    )
    require(
        isinstance(dtype, torch.dtype) and dtype.is_floating_point,
        f"dtype = {dtype!r}: give a floating dtype of torch, such as torch.float32",
    )
    if hasattr(name, "save_pretrained"):
        return _given(name, tokenizer, {"backend": backend, "device": device, "dtype": dtype})
    require(tokenizer is None, "tokenizer= goes with a model that transformers made: a checkpoint has its own")
    require(
        isinstance(name, str | os.PathLike),
        f'{type(name).__name__} is no checkpoint: give "minilm", a name, a folder, or a model that transformers made',
    )
    place, name = _device(device), os.fspath(name)
    tried = [kind for kind in backends[1:] if backend in ("auto", kind) and (kind == "bridge" or encoder is not None)]
    refusals: list[str] = []
    try:
        checkpoint = read_checkpoint(name, dtype)
        sample = _Sample.of(checkpoint)
        for kind in tried:
            unlike = kind == "hooked" and _unlike_hooked(checkpoint.model.config)
            if unlike:
                refusals.append(f"HookedEncoder can't represent {unlike}")
                continue
            given = (checkpoint, place, dtype)
            model = (_as_encoder(encoder, *given) if kind == "hooked" else _as_bridge(*given)).eval()
            model.tl_dream_name, model.tl_dream_untrained = name, checkpoint.untrained
            difference = sample.difference(model)
            if difference is None:
                return model
            refusals.append(difference)
    except DreamError:
        raise
    except Exception as error:
        raise DreamError(f"the checkpoint {name!r} can't be made into a model: {in_a_line(error)}") from error
    advice = '; use backend="bridge"' if backend == "hooked" else ""
    raise DreamError(f"{name!r} can't be represented exactly: {'; '.join(refusals)}{advice}")


def _given(model: Any, tokenizer: Any, options: dict[str, Any]) -> Any:
    """A model that transformers made, by way of a folder that is gone afterwards."""
    import transformers

    source = str(getattr(model, "name_or_path", "") or "")
    with tempfile.TemporaryDirectory() as folder:
        try:
            tokenizer = tokenizer or transformers.AutoTokenizer.from_pretrained(source)
        except Exception as error:
            name = type(model).__name__
            raise DreamError(f"no tokenizer is known for this {name}: give tokenizer= ({in_a_line(error)})") from error
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        made = load_model(folder, **options)
    made.tl_dream_name = source or type(model).__name__
    return made


def _unlike_hooked(config: Any) -> str | None:
    """What of a configuration HookedEncoder leaves out: its segments are two, its head's activation is GELU, and it
    sees all positions. Widths, depths, heads, the vocabulary and `layer_norm_eps` it takes as they are."""
    for field, fits in {"model_type": "bert", "hidden_act": "gelu", "is_decoder": False, "type_vocab_size": 2}.items():
        if getattr(config, field) != fits:
            return f"{field} = {getattr(config, field)!r} (only {fits!r})"
    return None


@dataclass(frozen=True)
class _Sample:
    """Two random sentences, the second of them padded, and what Hugging Face's model makes of them."""

    ids: Tensor
    mask: Tensor
    blocks: list[Tensor]
    logits: Tensor | None

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> _Sample:
        model, config = checkpoint.model, checkpoint.model.config
        length = min(8, config.max_position_embeddings - 2)  # a RoBERTa's positions begin at 2
        require(
            length >= 2, f"{checkpoint.name!r} reads {config.max_position_embeddings} positions: too few for a text"
        )
        ids = torch.randint(config.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
        ids[ids == config.pad_token_id] = config.pad_token_id - 1 if config.pad_token_id else 1
        mask = torch.ones_like(ids)
        mask[1, length // 2 :] = 0
        blocks: list[Tensor] = []
        layers = getattr(model, model.base_model_prefix).encoder.layer
        handles = [
            layer.register_forward_hook(lambda _, __, out: blocks.append(out[0] if isinstance(out, tuple) else out))
            for layer in layers
        ]
        try:
            with torch.no_grad():
                out = model(ids, attention_mask=mask)
        finally:
            for handle in handles:
                handle.remove()
        require(
            all(bool(block.isfinite().all()) for block in blocks),
            f"the activations of {checkpoint.name!r} are not finite in {blocks[0].dtype}: its weights are broken, or "
            "need a wider dtype, such as torch.float32",
        )
        logits = out["prediction_logits"] if "prediction_logits" in out else out["logits"]
        return cls(ids, mask.bool(), blocks, None if "mlm" in checkpoint.untrained else logits)

    def difference(self, model: Any) -> str | None:
        """In words, where a model computes something else at a real token."""
        with attached(model) as host, torch.no_grad():
            expected = {host.resolve("block_out", i): block for i, block in enumerate(self.blocks)}
            if self.logits is not None:
                expected[host.resolve("logits")] = self.logits
            found = forward(host, self.ids.to(host.device), list(expected), mask=self.mask.to(host.device))
        for name, wanted in expected.items():
            limit = TOLERANCE.get(wanted.dtype, LOOSE)
            mine, theirs = found[name].cpu()[self.mask].double(), wanted[self.mask].double()
            off, size = float((mine - theirs).abs().max()), float(theirs.abs().max())
            if not off <= limit * size:  # NaN is no agreement
                title = type(model).__name__
                return f"{title} gives values {off:.2g} away from Hugging Face's at {name} (up to {size:.2g})"
        return None


def _device(device: str | torch.device | None) -> torch.device:
    try:
        place = torch.empty(0, device=device or "cpu").device
        require(place.type != "meta", "device 'meta' holds no numbers: take 'cpu'")
        return place
    except (RuntimeError, AssertionError, TypeError) as error:  # CUDA that was not compiled in asserts
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise DreamError(f"device {str(device)!r} is not available on this machine: {reason}; take 'cpu'") from error


def _hooked_encoder() -> Any:
    """The class, or None where this TransformerLens has none (4.x raises ImportError on the attribute)."""
    import transformer_lens

    try:
        return transformer_lens.HookedEncoder
    except (AttributeError, ImportError):
        return None


def _as_encoder(encoder: Any, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
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


def _as_bridge(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
    from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
    from transformer_lens.model_bridge import TransformerBridge

    config = checkpoint.model.config
    require(
        FAMILIES[config.model_type][1] in SUPPORTED_ARCHITECTURES,
        f"{checkpoint.name!r} is a {config.model_type!r}, and the installed TransformerLens has no bridge for it: "
        "install transformer-lens 4.3 or later, or take a BERT",
    )
    return TransformerBridge.boot_transformers(
        checkpoint.name,
        hf_model=checkpoint.model.to(device),
        tokenizer=checkpoint.tokenizer,
        device=device,
        dtype=dtype,
    )
