"""Attach to a TransformerLens model: ONE forward pass, ids or soft tokens in, named activations out with their graph.

Works on HookedEncoder and HookedTransformer (transformer-lens 3.x) and TransformerBridge (3.x and 4.x). Only own hook
handles are added and removed; the user's hooks fire and compose, and everything is left as found. The pass ends, by a
private exception, at the last hook that was asked for, so the deeper layers and the MLM head cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._errors import DreamError, require, unknown
from tl_dream.checkpoints import Checkpoint, read_checkpoint
from tl_dream.hook_names import SWITCHED, layers_run, short_names
from tl_dream.hosts import KINDS, Host, attached, owned_hook


class _Done(Exception):
    """Raised inside the last hook read, to end the forward pass."""


def forward(
    host: Host,
    ids: Int[Tensor, "batch pos"],
    hooks: Sequence[str],
    *,
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    mask: Bool[Tensor, "batch pos"] | None = None,
    token_types: Int[Tensor, "batch pos"] | None = None,
) -> dict[str, Tensor]:
    """The forward pass, up to the last of the hooks that are read.

    Args:
        host: from `attached(model)`.
        ids: token ids, right-padded.
        hooks: full hook names (see `Host.resolve`).
        embeddings: word embeddings that replace those of `ids` (rows of W_E or mixtures of them); gradients flow
            through them. The user's own edits at the embedding act on them.
        mask: True at real tokens; None where no row is padded.
        token_types: segment ids of BERT; None means all 0.

    Returns:
        {full hook name: activation} with the graph.

    Raises:
        DreamError: a hook that never fired.
    """
    got: dict[str, Tensor] = {}
    names = list(dict.fromkeys(hooks))

    def reader(name: str) -> Callable[..., None]:
        def read(activation: Tensor, hook: Any = None) -> None:
            got[name] = activation
            if len(got) == len(names):
                raise _Done

        return read

    def write(activation: Tensor, hook: Any = None) -> Tensor:
        assert embeddings is not None
        return embeddings.to(activation.dtype)

    with ExitStack() as handles:
        if embeddings is not None:  # before the user's edits
            handles.enter_context(owned_hook(host.point(host.resolve("embed")), write, prepend=True))
        for name in names:  # after them
            handles.enter_context(owned_hook(host.point(name), reader(name)))
        try:
            host.model(ids, **_inputs(host, mask, token_types))
        except _Done:
            pass
    silent = [name for name in names if name not in got]
    if silent:
        raise DreamError(_silent(host, silent[0]))
    backward = embeddings is not None and embeddings.requires_grad and torch.is_grad_enabled()
    host.meter.add(ids.shape[0], ids.shape[1], layers_run(names, host.n_layers), backward)
    return got


def _inputs(host: Host, mask: Tensor | None, token_types: Tensor | None) -> dict[str, Any]:
    """Keyword arguments of the model's forward for padding and segments."""
    inputs: dict[str, Any] = {}
    if host.kind == "encoder":
        if mask is not None:
            inputs["one_zero_attention_mask"] = mask.long()
        inputs["token_type_ids"] = token_types
    else:
        if mask is not None and not host.causal:  # right padding is invisible to a causal model
            inputs["attention_mask"] = mask.long()
        if token_types is not None and not host.causal:
            inputs["token_type_ids"] = token_types
    return inputs


def _silent(host: Host, name: str) -> str:
    last = name.rsplit(".", 1)[-1]
    advice = "choose a hook that fires"
    if last in SWITCHED:
        advice = f"set model.cfg.{SWITCHED[last]} = True first"
    elif last == "hook_pattern":
        advice = 'build the bridge on a Hugging Face model with attn_implementation="eager"'
    elif name.startswith(("pooler.", "nsp_head.")):
        advice = f"{KINDS[host.kind]}.forward does not call the pooler or the NSP head"
    return f"the hook {name!r} of {host.name} did not fire in the forward pass: {advice}"


@dataclass(frozen=True)
class HookInfo:
    """A hook as `tl-dream hooks` lists it; `shape` of a sentence of `pos` tokens, None where the hook did not fire."""

    name: str
    shape: tuple[int, ...] | None
    short: str | None


def list_hooks(model: Any, text: str = "a b c") -> list[HookInfo]:
    """Every hook of a model in the order they fire, with its shape for `text` and its short name; those that did not
    fire come last. Aliases of one hook point are listed once, by the name the short names use."""
    with attached(model) as host:
        shorts = short_names(host._column, host.n_layers)
        hook_dict = dict(host.model.hook_dict)
        names: dict[int, str] = {}
        for name, point in hook_dict.items():
            if id(point) not in names or (name in shorts and names[id(point)] not in shorts):
                names[id(point)] = name
        ids, _ = host.pad([host.vocabulary.read(text).ids])
        shapes: dict[str, tuple[int, ...]] = {}

        def reader(name: str) -> Callable[..., None]:
            def read(activation: Any, hook: Any = None) -> None:
                if isinstance(activation, Tensor):
                    shapes[name] = tuple(activation.shape)

            return read

        with ExitStack() as handles, torch.no_grad():
            for name in names.values():
                handles.enter_context(owned_hook(hook_dict[name], reader(name)))
            host.model(ids, **_inputs(host, None, None))
    silent = [name for name in names.values() if name not in shapes]
    return [HookInfo(name, shapes.get(name), shorts.get(name)) for name in (*shapes, *silent)]


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
        raise DreamError(f"the device {str(device)!r} is not to be had here: {str(error).splitlines()[0]}") from error


def _hooked_encoder() -> Any:
    """The class, or None where this TransformerLens has none (4.x raises ImportError on the attribute)."""
    import transformer_lens

    try:
        return transformer_lens.HookedEncoder
    except (AttributeError, ImportError):
        return None


def _as_encoder(encoder: Any, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
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


def _as_bridge(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(
        checkpoint.name,
        hf_model=checkpoint.model.to(device),
        tokenizer=checkpoint.tokenizer,
        device=device,
        dtype=dtype,
    )
