"""A concept as a direction of one hook: shift, erase and steer activations along it, and objectives from it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream._arguments import NATURAL, Number, Whole, finite_number, plain
from tl_dream._errors import DreamError, require
from tl_dream.concepts.shifts import projected, with_change
from tl_dream.concepts.storage import PROBE, TOLERANCES, away, fingerprint, probe, read_tensors, write_tensors
from tl_dream.models import Host, attached, user_hooks
from tl_dream.objectives import Objective, direction
from tl_dream.results import HEAD, Evidence, carrying_lines, declared, read_value, table
from tl_dream.text import Positions

Along = Float[Tensor, " unit"]


@dataclass(frozen=True, eq=False)
class ConceptVector:
    """A unit direction at one hook that leads from the negative to the positive set, and what is known about it.

    Attributes:
        name: such as "he -> she".
        negative, positive: names of the two sets.
        estimator: that made it.
        model: the model's name and class.
        hook, layer: as asked for; the same tensor on every backend.
        hook_name: the hook's full name on the model it was fitted on, or was loaded for.
        direction: Float[unit] of length 1; heads' units counted through.
        threshold: of the projection on the direction, in the hook's units; above it is positive.
        scale: the distance between the means of the two sets, in the hook's units: the natural unit of magnitudes.
        control: a direction of length 1 from the same sentences, half of each set under the other's label.
        probe, embedding: what the model is known by.
        evidence: how far the direction can be trusted.
        examples: what it was fitted on, in numbers.
        seed: of the split, the shuffles and the bootstrap.
    """

    name: str
    negative: str
    positive: str
    estimator: str
    model: str
    hook: str
    layer: int | None
    hook_name: str
    direction: Along
    threshold: float
    scale: float
    control: Along
    probe: Along
    embedding: Float[Tensor, " d_model"]
    evidence: Evidence
    examples: Mapping[str, Any]
    seed: int

    @property
    def width(self) -> int:
        """Units of the hook."""
        return int(self.direction.shape[0])

    @property
    def place(self) -> str:
        """The hook as a receipt tells it."""
        return self.hook if self.layer is None else f"{self.hook}, layer {self.layer}"

    def __str__(self) -> str:
        return receipt([self])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file (see `ConceptVectors.save`)."""
        ConceptVectors((self,)).save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Any = None, *, layer: Whole | None = None) -> ConceptVector:
        """Read one vector; arguments and errors as in `ConceptVectors.load`.

        Args:
            layer: which, where the file holds several.
        """
        every = ConceptVectors.load(path, model)
        require(
            layer is not None or len(every) == 1,
            f"the file {str(path)!r} holds the layers {every.layers}: say layer=, or use ConceptVectors.load",
        )
        return every.vectors[0] if layer is None else every[layer]

    # ------------------------------------------------------------ activations

    def coordinate(self, activation: Float[Tensor, "*rows unit"]) -> Float[Tensor, "*rows"]:
        """Where activations lie: 0 on the boundary, positive on the positive set's side, in natural units."""
        require(
            activation.shape[-1] == self.width,
            f"the concept has {self.width} units, the activation {activation.shape[-1]} (shape "
            f"{tuple(activation.shape)})",
        )
        return (projected(activation, self.direction) - self.threshold) / self.scale

    def shift(self, activation: Tensor, pos: Positions, magnitude: Number, *, along: Along | None = None) -> Tensor:
        """A copy of an activation, moved along the concept.

        Args:
            activation: [pos, unit] or [batch, pos, unit]; heads may have an axis of their own.
            pos: a position, several, a slice, or None for all of them.
            magnitude: in natural units; positive leads to the positive set.
            along: another direction of length 1, for controls.

        Raises:
            DreamError: another width than the hook's, a position that is not there, a magnitude that is no number.
        """
        size = finite_number("magnitude", magnitude, NATURAL) * self.scale
        step = (self.direction if along is None else along).double() * size
        return with_change(activation, self.width, pos, lambda rows: rows + step.to(rows))

    def erase(self, activation: Tensor, pos: Positions = None) -> Tensor:
        """A copy of an activation without the concept: its coordinate is 0, on the boundary; all else stays.

        Args:
            activation, pos: as in `shift`.
        """
        v = self.direction
        excess: Callable[[Tensor], Tensor] = lambda rows: projected(rows, v) - self.threshold  # noqa: E731
        return with_change(activation, self.width, pos, lambda rows: rows - excess(rows)[..., None] * v.to(rows))

    # ------------------------------------------------------------ models

    def steer(
        self, magnitude: Number, *, pos: Positions = None, model: Any = None
    ) -> tuple[str, Callable[..., Tensor]]:
        """A TransformerLens hook that moves the activation along the concept.

            model.add_hook(*concept.steer(1.5, pos=1))
            model.run_with_hooks(text, fwd_hooks=[concept.steer(-1)])

        Args:
            magnitude: in natural units; positive leads to the positive set.
            pos: positions by number, a slice, or None for every one ([CLS] and [SEP] too).
            model: where the hook goes, if not to a model of the class that the concept was fitted on or loaded for.

        Returns:
            The full hook name and the function.
        """
        magnitude, pos = finite_number("magnitude", magnitude, NATURAL), plain(pos)
        return self._name_on(model), lambda activation, hook=None: self.shift(activation, pos, magnitude)

    def eraser(self, *, pos: Positions = None, model: Any = None) -> tuple[str, Callable[..., Tensor]]:
        """A TransformerLens hook that erases the concept (see `erase`); arguments as in `steer`."""
        pos = plain(pos)
        return self._name_on(model), lambda activation, hook=None: self.erase(activation, pos)

    def objective(self, *, pos: Positions = None, reduce: str = "max") -> Objective:
        """The coordinate as an objective: `dream` finds the text furthest along the concept, `corpus_search` real ones.

        Args:
            pos, reduce: as in `neuron`.
        """
        pos = plain(pos)
        goal = direction(self.direction.double() / self.scale, self.hook, layer=self.layer, pos=pos, reduce=reduce)
        place = f"{self.hook!r}" + ("" if self.layer is None else f", layer={self.layer}")
        place += "" if pos is None else f", pos={pos!r}"
        place += "" if reduce == "max" else f", reduce={reduce!r}"
        return replace(goal - self.threshold / self.scale, formula=f"concept({self.name!r}, {place})")

    def check(self, model: Any) -> str:
        """The hook's full name on this model, which must be the one that the concept was fitted on, on any backend.

        Raises:
            DreamError: another model, hook or width (or hooks of yours that change what the model computes).
        """
        with attached(model) as host:
            return self._checked(host, strict=True)

    def check_on(self, host: Host) -> str:
        """`check` for use: while your own hooks are on the model (`steer`, an ablated head), its activations are not
        its own, and it is known by its word embeddings alone; the width is checked where the activation is read.

        Raises:
            DreamError: another model, hook or width.
        """
        return self._checked(host, strict=not user_hooks(host.model))

    def _checked(self, host: Host, strict: bool) -> str:
        require(
            away(host, fingerprint(host), self.embedding) <= 1,
            f"the concept {self.name!r} was fitted on {self.model}, and {host.name} is another model, with other word "
            "embeddings. Fit the concept on this model",
        )
        name = host.resolve(self.hook, self.layer)
        if not strict:  # hooks of the user's may ask for positions that only their own texts have
            return name
        here = probe(host, name)
        require(
            here.shape[0] == self.width,
            f"the concept {self.name!r} was fitted at {self.hook_name!r} and has {self.width} units, the hook "
            f"{name!r} of {host.name} has {here.shape[0]}",
        )
        apart = away(host, here, self.probe)
        require(
            apart <= 1,
            f"the concept {self.name!r} was fitted on {self.model}, and {host.name} is another model: its "
            f"activation at {name!r} for {PROBE!r} differs by {apart:.2g} times what numerical precision allows "
            "(hooks of your own would show in the same way). Fit the concept on this model",
        )
        return name

    def _name_on(self, model: Any) -> str:
        if model is None:
            return self.hook_name
        with attached(model) as host:
            return self.check_on(host)


@dataclass(frozen=True, eq=False)
class ConceptVectors:
    """One concept at several layers, in their order; `concepts[3]` is the vector of layer 3."""

    vectors: tuple[ConceptVector, ...]

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[ConceptVector]:
        return iter(self.vectors)

    def __getitem__(self, layer: Whole | None) -> ConceptVector:
        layer = plain(layer)
        for vector in self.vectors:
            if vector.layer == layer:
                return vector
        raise DreamError(f"the concept {self.vectors[0].name!r} has no layer {layer!r}; it has {self.layers}")

    @property
    def layers(self) -> tuple[int | None, ...]:
        """The layers there are vectors for."""
        return tuple(vector.layer for vector in self.vectors)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What is known about each, for tables and figures."""
        return tuple(vector.evidence for vector in self.vectors)

    def __str__(self) -> str:
        return receipt(self.vectors)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, whole or not at all; the same concept gives the same file, to the bit.

        Raises:
            DreamError: a path that can't be written.
        """
        plain = [{**{name: getattr(v, name) for name in PLAIN}, "evidence": asdict(v.evidence)} for v in self]
        tensors = {f"{i}.{name}": getattr(v, name) for i, v in enumerate(self) for name in TENSORS}
        write_tensors(path, {"vectors": plain}, tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Any = None) -> ConceptVectors:
        """Read what `save` wrote.

        Args:
            path: the file.
            model: the model it is meant for; a file of another model, hook or width is refused, and the vectors'
                `hook_name` (which `steer` and `eraser` use) is this model's.

        Raises:
            DreamError: no such file, a file of something else, a damaged one, or one of another model.
        """
        header, tensors = read_tensors(path)
        try:
            every = cls(tuple(_vector(data, i, tensors) for i, data in enumerate(header["vectors"])))
        except DreamError as error:
            raise DreamError(f"{str(path)!r} is not a whole concept file, or it is damaged: {error}") from error
        except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
            raise DreamError(
                f"{str(path)!r} is not a whole concept file, or it is damaged: {error!r} is missing or wrong"
            ) from error
        require(len(every) > 0, f"the concept file {str(path)!r} holds no vector")
        if model is None:
            return every
        return cls(tuple(replace(vector, hook_name=vector.check(model)) for vector in every))


TENSORS = ("direction", "control", "probe", "embedding")
PLAIN = tuple(field.name for field in fields(ConceptVector) if field.name not in (*TENSORS, "evidence"))
COUNTS = ("negatives", "positives", "groups", "duplicates", "layers", "forwards", "forward_tokens")
"""What `examples` holds, and a receipt prints."""


def _vector(data: Mapping[str, Any], i: int, tensors: Mapping[str, Tensor]) -> ConceptVector:
    """One vector of a file, its parts fitting together; looked at before it is made, so that no other file is one."""
    plain = {name: read_value(name, declared(ConceptVector)[name], data[name]) for name in PLAIN}
    found = {name: tensors[f"{i}.{name}"] for name in TENSORS}
    for name, tensor in found.items():
        require(
            tensor.dtype in TOLERANCES and tensor.ndim == 1 and bool(torch.isfinite(tensor).all()),
            f"{name} of vector {i} is {tensor.dtype} of shape {tuple(tensor.shape)}, not a row of finite numbers",
        )
    widths = {len(found[name]) for name in ("direction", "control", "probe")}
    lengths = [float(found[name].norm()) for name in ("direction", "control")]
    scale, about = plain["scale"], plain.pop("examples")
    require(
        len(widths) == 1 and scale > 0 and all(abs(length - 1) < 1e-3 for length in lengths),
        f"the numbers of vector {i} do not fit together (widths {sorted(widths)}, lengths of the direction and its "
        f"control {lengths[0]:.4g} and {lengths[1]:.4g}, scale {scale:.4g})",
    )
    return ConceptVector(
        **plain,
        **found,  # type: ignore[arg-type]
        evidence=read_value("evidence", Evidence, data["evidence"]),
        examples=about | {name: read_value(name, int, about[name]) for name in COUNTS},
    )


def receipt(vectors: Sequence[ConceptVector]) -> str:
    """What a concept is, what it was fitted on and how far it can be trusted, for people."""
    first, about = vectors[0], vectors[0].examples
    evidence = first.evidence
    more = f", {about['duplicates']} duplicates left out" if about["duplicates"] else ""
    samples = " / ".join(  # as many a layer, if not all the same
        dict.fromkeys(
            f"{e.bootstraps} bootstrap samples"
            + (f" of {e.bootstraps_drawn}, no direction on the others" if e.bootstraps < e.bootstraps_drawn else "")
            for e in (v.evidence for v in vectors)
        )
    )
    rows = [(*v.evidence.row()[:1], f"{v.scale:.4g}", *v.evidence.row()[1:]) for v in vectors]
    return "\n".join(
        [
            f"{first.name} at {first.hook} on {first.model}, by {first.estimator!r}",
            f"{about['negatives']} {first.negative} and {about['positives']} {first.positive} sentences in "
            f"{about['groups']} groups that share all but the concept word{more}; fitted on {evidence.fitted}, "
            f"held out {evidence.held_out} in {evidence.held_out_groups} groups",
            table((HEAD[0], "natural scale", *HEAD[1:]), rows),
            *carrying_lines([v.evidence for v in vectors], [v.scale for v in vectors]),
            f"{evidence.random_concepts} random-label concepts, p corrected over {about['layers']} layer(s); "
            f"{samples}; seed {first.seed}; cost: {about['forwards']:,} forwards, "
            f"{about['forward_tokens']:,} forward-tokens",
        ]
    )
