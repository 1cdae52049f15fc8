"""A TransformerLens model as the library sees it for one call: its names, vocabulary and cost, itself untouched."""

from __future__ import annotations

import hashlib
import math
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import metadata
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tl_dream._arguments import Number, finite_number, is_whole, plain
from tl_dream._errors import DreamError, keeping, require, unknown
from tl_dream.models.direction import CAUSAL, MASKED, direction_of, is_bert
from tl_dream.models.hooks import ALIASES, LAYERED, PARTS, SHORT_NAMES, WHOLE
from tl_dream.models.isolation import in_evaluation, isolated, shared, user_hooks
from tl_dream.results import Cost, Provenance, ScoredText, made_with
from tl_dream.text import Vocabulary

KINDS = {"encoder": "HookedEncoder", "transformer": "HookedTransformer", "bridge": "TransformerBridge"}


@dataclass
class Meter:
    """Counts what was run: sentences (one with its gradient counts as two) and rows x positions x layers.

    Attributes:
        whole: counts the same, where this one is a part's.
        ends: when the call is to end, by `time.perf_counter()`.
    """

    forwards: int = 0
    forward_tokens: int = 0
    whole: Meter | None = None
    ends: float = math.inf

    @property
    def late(self) -> bool:
        return time.perf_counter() >= self.ends

    def now(self) -> Cost:
        """The counts and a clock: the difference of two is what was spent between them."""
        return Cost(self.forwards, self.forward_tokens, time.perf_counter())

    def add(self, rows: int, positions: int, layers: int, backward: bool) -> None:
        passes = rows * (2 if backward else 1)
        self.forwards += passes
        self.forward_tokens += passes * positions * layers
        if self.whole is not None:
            self.whole.add(rows, positions, layers, backward)

    def charge(self, forwards: int, forward_tokens: int) -> None:
        """Count what was run elsewhere."""
        self.forwards += forwards
        self.forward_tokens += forward_tokens
        if self.whole is not None:
            self.whole.charge(forwards, forward_tokens)


@dataclass(frozen=True)
class Host:
    """A TransformerLens model as the library sees it, for the length of one call.

    Attributes:
        model: the user's HookedEncoder, HookedTransformer or TransformerBridge, untouched.
        kind: "encoder", "transformer" or "bridge".
        name: the model's name and its class, for receipts.
        bert: whether its blocks are laid out as BERT's.
        causal: whether a position sees only those before it.
        masks: whether padding can be hidden from a position that sees all; else rows of one length alone are run.
        W_E: the embedding matrix, Float[d_vocab, d_model]; its device and dtype are the model's.
        prefix: the ids that every text begins with (a beginning-of-text token).
        untrained: what the checkpoint is known not to carry: of "mlm" (its language-model head), "pooler", "nsp".
        meter: what was run so far.
        tables: what was computed from the weights for this call, by name.
    """

    model: Any
    kind: str
    name: str
    bert: bool
    causal: bool
    masks: bool
    n_layers: int
    n_ctx: int
    W_E: Tensor
    prefix: tuple[int, ...] = ()
    untrained: tuple[str, ...] = ()
    meter: Meter = field(default_factory=Meter)
    tables: dict[str, Any] = field(default_factory=dict, repr=False)
    _points: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Text <-> ids; only made where it is asked for, since a judge that is looked at in every pass does not."""
        return Vocabulary.of(self.model.tokenizer, self.d_vocab, self.n_ctx, self.prefix)

    def apart(self, whole: bool = True) -> Host:
        """The same with a meter of its own, for one of several searches; without `whole` it counts there alone."""
        own = replace(self, meter=Meter(whole=self.meter if whole else None, ends=self.meter.ends))
        own.__dict__["vocabulary"] = self.vocabulary
        return own

    @property
    def provenance(self) -> Provenance:
        """What results of this call are made with."""
        dtype = str(self.W_E.dtype).removeprefix("torch.")
        return Provenance(versions(), model_hash(self), str(self.device), dtype, user_hooks(self.model))

    @property
    def late(self) -> bool:
        """Whether the seconds of this call are over: nothing new is then begun, and what was found is its result."""
        return self.meter.late

    @property
    def device(self) -> torch.device:
        return self.W_E.device

    @property
    def d_vocab(self) -> int:
        return int(self.W_E.shape[0])

    @property
    def head_trained(self) -> bool:
        """False where the checkpoint is known to carry no language-model head."""
        return "mlm" not in self.untrained

    @property
    def _column(self) -> int:
        return {"encoder": 0, "transformer": 2, "bridge": 1 if self.bert else 3}[self.kind]

    def point(self, name: str) -> Any:
        """The HookPoint of a full name (kept for this call only: SAELens replaces them between calls)."""
        if not self._points:
            self._points.update(self.model.hook_dict)
        point = self._points.get(name)
        if point is None and hasattr(self.model, "get_hook_point"):
            point = self.model.get_hook_point(name)  # subclasses hide aliases from hook_dict
            if point is not None:
                self._points[name] = point
        if point is None:
            raise unknown("hook", name, (*SHORT_NAMES, *self._points), "`tl-dream hooks` lists them all.")
        return point

    def resolve(self, hook: str, layer: Any = None) -> str:
        """The full name of a hook: a full name means itself; a short name means the same tensor on every backend.

        Raises:
            DreamError: an unknown name or layer, a short name without its layer, a hook this backend has not got, or
                one behind a head that the checkpoint does not carry.
        """
        require(isinstance(hook, str), f"hook = {hook!r}: give the name of a hook; `tl-dream hooks` lists them all")
        layer = plain(layer)
        short = ALIASES.get(hook, hook)
        if short in LAYERED:
            require(
                layer is not None,
                f"the hook {hook!r} is one of every layer: give layer= (0 to {self.n_layers - 1})",
            )
            require(
                is_whole(layer) and 0 <= layer < self.n_layers,
                f"layer {layer!r} does not exist: {self.name} has layers 0 to {self.n_layers - 1}",
            )
            inner = LAYERED[short][self._column]
            full = inner and f"blocks.{layer}.{inner}"
        elif short in WHOLE:
            require(layer is None, f"the hook {hook!r} is the model's, not a layer's: leave layer= out")
            full = WHOLE[short][self._column]
        else:
            self.point(hook)
            require(layer is None, f"{hook!r} is a full hook name and says its layer itself: leave layer= out")
            full = hook
        require(
            full is not None,
            f"{self.name} has no hook for {hook!r}; `tl-dream hooks` lists those it has",
        )
        assert full is not None
        self.point(full)
        for part in self.untrained:
            title, behind, owner = PARTS[part]
            require(
                not full.startswith(behind),
                f"the hook {full!r} lies behind the {title}, and the checkpoint of {self.name} carries none: "
                f"its weights are random. Load a checkpoint with its {title} ({owner}), or use another hook",
            )
        return full

    def scored_text(self, ids: Sequence[int], score: float, step: int = 0, again: bool | None = None) -> ScoredText:
        """Tokens and what they score, as a result holds them.

        Args:
            again: whether the text tokenizes back to them; None: not known.
        """
        if again is None:
            (again,) = self.vocabulary.retokenizes([ids])
        return ScoredText(self.vocabulary.decode(ids), self.vocabulary.tokens(ids), tuple(ids), score, step, again)

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
        """Unequal rows of ids as one right-padded batch and its mask of real tokens, on the model's device."""
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.full(mask.shape, self.vocabulary.pad_id, dtype=torch.long)
        ids[mask] = torch.tensor([token for row in rows for token in row], dtype=torch.long)
        return ids.to(self.device), mask.to(self.device)


@cache
def versions() -> dict[str, str]:
    """Of everything that what is found depends on."""
    found = {}
    for name in ("tl-dream", "transformer-lens", "transformers", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a folder
            found[name] = "not installed"
    return found


_HASHES: weakref.WeakKeyDictionary[Any, tuple[Any, str]] = weakref.WeakKeyDictionary()


def model_hash(host: Host) -> str:
    """SHA-256 of a model's class, vocabulary and weights, wherever it is; computed anew when they have changed."""
    named = host.model.state_dict().items()
    tensors = {name: value.detach() for name, value in sorted(named) if isinstance(value, Tensor)}
    state: list[Any] = [host.vocabulary.digest]
    for name, value in tensors.items():
        version = 0 if value.is_inference() else value._version
        total = float(value.sum())  # an edit of `.data` leaves the version as it is
        state.append((name, value.dtype, value.data_ptr(), version, total))
    known = _HASHES.get(host.model)
    if known is None or known[0] != state:
        digest = hashlib.sha256(f"{host.kind} {host.vocabulary.digest}".encode())
        for name, value in tensors.items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        known = _HASHES[host.model] = (state, digest.hexdigest())
    return known[1]


def _kind(model: Any) -> str | None:
    hooks = getattr(model, "hook_dict", {})
    if hasattr(model, "encoder_output") and "embed.hook_embed" in hooks:
        return "encoder"
    if hasattr(model, "original_model") and hasattr(model, "adapter"):
        return "bridge"
    if "hook_embed" in hooks and hasattr(model, "W_E"):
        return "transformer"
    return None


def _host(model: Any, kind: str) -> Host:
    cfg = model.cfg
    tokenizer = model.tokenizer
    require(tokenizer is not None, "the model has no tokenizer: set model.tokenizer first")
    require(
        len(tokenizer) > len(set(tokenizer.all_special_ids)),
        "the model's tokenizer knows no word but its special tokens (it was made without its files, tokenizer.json or "
        "vocab.txt), so that every text would be read as unknown words: copy these files from where the model is from",
    )
    require(
        not any(parameter.is_inference() for parameter in model.parameters()),
        "the model was made inside torch.inference_mode(), and no gradient can be taken through such weights: make it "
        "outside, or take a copy of it there",
    )
    direction, bert = direction_of(model, kind), is_bert(model, kind)
    W_E = model.W_E.detach()
    require(
        not W_E.is_meta and W_E.is_floating_point() and W_E.itemsize > 1,
        f"the model's embeddings are {W_E.dtype} on {W_E.device}: load its weights, in 16 bits or more",
    )
    prefix: tuple[int, ...] = ()
    causal = direction == CAUSAL
    if causal and not bert and getattr(cfg, "default_prepend_bos", False) and tokenizer.bos_token_id is not None:
        prefix = (tokenizer.bos_token_id,)
    label = getattr(model, "tl_dream_name", None) or getattr(cfg, "model_name", None) or "model"
    return Host(
        model=model,
        kind=kind,
        name=f"{label} ({KINDS[kind]})",
        bert=bert,
        causal=causal,
        masks=direction == MASKED,
        n_layers=int(cfg.n_layers),
        n_ctx=int(cfg.n_ctx),
        W_E=W_E,
        prefix=prefix,
        untrained=tuple(getattr(model, "tl_dream_untrained", ())),
    )


def deadline(seconds: Number | None) -> float:
    """When a call that begins now and may take so long ends, by `time.perf_counter()`; None: never.

    Raises:
        DreamError: seconds that are no number above 0.
    """
    if seconds is None:
        return math.inf
    return time.perf_counter() + finite_number("seconds", seconds, "a number above 0", lambda some: some > 0)


@contextmanager
def attached(model: Any, seconds: Number | None = None) -> Iterator[Host]:
    """Attach to a model for one call: evaluation mode inside, every module's own mode again after, come what may.

    An open `Host` is passed through with its clock, so that one public function can call another. Of a model that
    `torch.compile` has seen the plain one runs: a compiled graph does not fire hooks that it was not compiled with.

    Args:
        seconds: that the call may take; what is inside asks `Host.late`. None sets no limit.
    """
    if isinstance(model, Host):
        yield model
        return
    ends = deadline(seconds)
    with keeping(lambda partial, why: partial), isolated(), opened(model) as host:  # None where nobody made one
        host.meter.ends = ends
        with made_with(lambda: host.provenance):
            yield host


@contextmanager
def opened(model: Any) -> Iterator[Host]:
    """`attached` inside a call that is isolated already, for a judge: gradients and autocast stay as they are there."""
    model = getattr(model, "_orig_mod", model)
    kind = _kind(model)
    if kind is None:
        raise DreamError(
            f"{type(model).__name__} is not a model this library attaches to: give a HookedEncoder, HookedTransformer "
            'or TransformerBridge as the first argument, or load one with load_model("minilm")'
        )
    with shared(model).changed(lambda: in_evaluation(model)):
        yield _host(model, kind)
