"""Which units a pattern names: "block_out:0-5:all", "mlp_post:3:1,5,9-12", "z:2:head=4", "block_out:0-5:random=50"."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tl_dream._arguments import Whole, listed, seed_number
from tl_dream._errors import DreamError, require, shortened
from tl_dream.models import ALIASES, LAYERED, Host, attached, check_index, is_pattern, list_hooks
from tl_dream.objectives import Objective, neuron

GRAMMAR = (
    "a pattern is HOOK:LAYERS:UNITS, such as block_out:0-5:all, mlp_post:3:1,5,9-12, z:2:head=4 or "
    "block_out:all:random=50; a hook that is no layer's, or a full hook name, goes without LAYERS"
)


@dataclass(frozen=True)
class Unit:
    """One unit of a hook, read at every word of a text.

    Attributes:
        hook, layer, unit, head: as in `neuron`.
    """

    hook: str
    layer: int | None
    unit: int
    head: int | None = None

    def __str__(self) -> str:
        """A pattern that names it alone."""
        parts = [self.hook, self.layer, None if self.head is None else f"head={self.head}", self.unit]
        return ":".join(str(part) for part in parts if part is not None)

    def objective(self) -> Objective:
        """The objective that a dream of it climbs."""
        return neuron(self.hook, layer=self.layer, unit=self.unit, head=self.head)


def units(model: Any, patterns: str | Iterable[str], *, seed: Whole = 0) -> tuple[Unit, ...]:
    """The units that patterns name, each once, in the order they are named.

    A pattern is HOOK:LAYERS:UNITS. LAYERS are numbers, ranges with both ends, or "all"; a hook that is no layer's, and
    a full TransformerLens name, go without. UNITS are "all", or numbers and ranges; "head=4" before them takes one
    head's (or several heads'); "random=50" after them draws 50 of all that the rest of the pattern names.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        patterns: one or several.
        seed: of the draw.

    Raises:
        DreamError: something else, a hook, layer, head or unit that the model has not got, or no unit.

    Examples:
        >>> td.units(bert, "mlp_post:1:1,5,9-10")[-1]
        Unit(hook='mlp_post', layer=1, unit=10, head=None)
        >>> len(td.units(bert, ["z:2:head=3", "block_out:0-2:random=20"]))
        26
    """
    seed, found = seed_number(seed), []
    with attached(model) as host:
        shapes = {hook.name: hook.shape for hook in list_hooks(host)}
        for pattern in listed(patterns):
            require(isinstance(pattern, str), f"{pattern!r:.80} is no pattern: {GRAMMAR}")
            found += _named(host, shapes, pattern, seed)
    require(bool(found), f"no pattern is given: {GRAMMAR}")
    return tuple(dict.fromkeys(found))


def _named(host: Host, shapes: dict[str, tuple[int, ...] | None], pattern: str, seed: int) -> list[Unit]:
    hook, *parts = (part.strip() for part in pattern.split(":"))
    layers: Sequence[int | None] = [None]
    if ALIASES.get(hook, hook) in LAYERED:
        require(bool(parts), f"{pattern!r} names no layer: {GRAMMAR}")
        layers = _numbers(pattern, parts.pop(0), range(host.n_layers), "layer")
    else:
        host.resolve(hook)  # a name that is none is told before all else
    require(not is_pattern(hook), f"{pattern!r}: attention has no units; give (attention(...), prompt) pairs as jobs")
    options: dict[str, str] = {}
    for part in parts:
        name, _, value = part.rpartition("=")
        name = name or "units"
        require(name in ("units", "head", "random") and name not in options, f"{pattern!r}: {GRAMMAR}")
        options[name] = value
    found = []
    for layer in layers:
        shape = shapes[host.resolve(hook, layer)]
        require(shape is not None and len(shape) in (3, 4), f"{pattern!r}: the hook {hook!r} has no units")
        assert shape is not None
        heads: Sequence[int | None] = [None]
        count = shape[-1] if len(shape) == 3 else shape[-1] * shape[-2]
        if "head" in options:
            require(len(shape) == 4, f"{pattern!r}: the hook {hook!r} has no heads; leave head= out")
            heads, count = _numbers(pattern, options["head"], range(shape[-2]), "head"), shape[-1]
        of = _numbers(pattern, options.get("units", "all"), range(count), "unit")
        found += [Unit(hook, layer, unit, head) for head in heads for unit in of]
    if "random" in options:
        draw = options["random"]
        require(
            re.fullmatch(r"\d{1,18}", draw) is not None and 1 <= int(draw) <= len(found),
            f"{shortened(pattern)!r}: random={shortened(draw)} is to be a number from 1 to {len(found)}, the units "
            "that the rest names",
        )
        chosen = set(random.Random(seed).sample(range(len(found)), int(draw)))
        found = [unit for i, unit in enumerate(found) if i in chosen]
    return found


def _numbers(pattern: str, text: str, every: range, kind: str) -> list[int]:
    """ "all", or numbers and ranges with commas."""
    if text == "all":
        return list(every)
    found: list[int] = []
    for item in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", item)
        if ends is None:
            raise DreamError(f"{shortened(pattern)!r}: {shortened(item)!r} is no {kind}; {GRAMMAR}")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        for end in (first, last):
            check_index(kind, end, len(every), pattern)
        require(first <= last, f"{pattern!r} names no {kind}: {item.strip()} ends before it begins")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))
