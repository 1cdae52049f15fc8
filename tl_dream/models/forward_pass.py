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

from tl_dream._errors import DreamError, require
from tl_dream.models.hooks import SWITCHED, layers_run, short_names
from tl_dream.models.host import KINDS, Host, attached
from tl_dream.models.isolation import owned_hook, shared


class _Done(Exception):
    """Raised inside the last hook read, to end the forward pass."""


def forward(
    host: Host,
    ids: Int[Tensor, "batch pos"],
    hooks: Sequence[str],
    *,
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    mask: Bool[Tensor, "batch pos"] | None = None,
) -> dict[str, Tensor]:
    """The forward pass, up to the last of the hooks that are read.

    Args:
        host: from `attached(model)`.
        ids: token ids, right-padded.
        hooks: full hook names (see `Host.resolve`).
        embeddings: word embeddings that replace those of `ids` (rows of W_E or mixtures of them); gradients flow
            through them. The user's own edits at the embedding act on them.
        mask: True at real tokens; None where no row is padded.

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

    with shared(host.model).lock, ExitStack() as handles:
        if embeddings is not None:  # before the user's edits
            handles.enter_context(owned_hook(host.point(host.resolve("embed")), write, prepend=True))
        for name in names:  # after them
            handles.enter_context(owned_hook(host.point(name), reader(name)))
        try:
            host.model(ids, **_inputs(host, ids, mask))
        except _Done:
            pass
    silent = [name for name in names if name not in got]
    if silent:
        raise DreamError(_silent(host, silent[0]))
    backward = embeddings is not None and embeddings.requires_grad and torch.is_grad_enabled()
    host.meter.add(ids.shape[0], ids.shape[1], layers_run(names, host.n_layers), backward)
    return got


def _inputs(host: Host, ids: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Keyword arguments of the model's forward for padding."""
    if host.kind == "encoder":
        return {} if mask is None else {"one_zero_attention_mask": mask.long()}
    if mask is not None and not host.causal:  # right padding is invisible to a causal model
        require(
            host.masks,
            f"{host.name} sees all positions and heeds no mask, so that padding would change its answers: "
            "give one text at a time, or texts of one length in tokens",
        )
        return {"attention_mask": mask.long()}
    if host.kind == "transformer" and host.model.tokenizer.padding_side == "left":
        return {"attention_mask": torch.ones_like(ids)}  # else a [PAD] near the front hides what stands before it
    return {}


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
    fire come last. Aliases of one hook point are listed once, by the name the short names use.

    Examples:
        >>> "mlp_post, layer=1" in [hook.short for hook in td.list_hooks(bert, "the red dog")]
        True
    """
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

        with shared(host.model).lock, ExitStack() as handles, torch.no_grad():
            for name in names.values():
                handles.enter_context(owned_hook(hook_dict[name], reader(name)))
            host.model(ids, **_inputs(host, ids, None))
    silent = [name for name in names.values() if name not in shapes]
    return [HookInfo(name, shapes.get(name), shorts.get(name)) for name in (*shapes, *silent)]
