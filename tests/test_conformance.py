"""Every public function on every kind of model: what is there before a call is there after it, however the call ends.

A new public function needs one line in CALLS, or a reason in NO_MODEL.
"""

import inspect
import logging
import os
import random
import signal
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers.utils import logging as hf_logging

import tl_dream as td
from tests.conftest import BACKENDS, EVERY, load_every
from tests.support.search import annealed
from tl_dream.models.host import attached
from tl_dream.results.base import SavedResult

Model = torch.nn.Module
TEXT, OTHER = " a red dog", " the cat sees a moon"
GOAL = td.neuron("mlp_post", layer=1, unit=3)
SETS = td.read_examples(
    [f"the {{dog}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
    [f"the {{moon}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
)
SHORT = {"steps": 3, "evaluate_every": 1}
FIT = {"hook": "mlp_post", "random_concepts": 50, "bootstraps": 2}


def predicted(model: Model, **more: Any) -> object:
    """A causal model has no [MASK] and predicts by its logits."""
    masked = model.tokenizer.mask_token is not None
    return td.predict_masked(model, "a [MASK] dog", **more) if masked else td.score(model, td.logit(5, pos=1), TEXT)


@dataclass(frozen=True)
class Call:
    """The smallest real call of a public function, and an option that it refuses.

    `run(model, goal, concept, **more)`; `goal` is whatever objective it is given.
    """

    run: Callable[..., object]
    bad: dict[str, Any] = field(default_factory=dict)


# the name of the public function, with a remark after a colon where it has several ways
CALLS: dict[str, Call] = {
    "list_hooks": Call(lambda m, g, c, text=TEXT: td.list_hooks(m, text), {"text": ""}),
    "score": Call(lambda m, g, c, **o: td.score(m, g, [TEXT, OTHER], **o), {"batch_tokens": 0}),
    "count_bigrams": Call(lambda m, g, c, **o: td.count_bigrams(m, [TEXT, OTHER], **o), {"strength": -1}),
    "fluency": Call(lambda m, g, c, **o: td.score(m, g + 0.1 * td.fluency(m, **o), TEXT)),
    "difference": Call(lambda m, g, c, **o: td.score(m, td.difference(g, m, **o), TEXT), {"weight": 0}),
    "corpus_search": Call(lambda m, g, c, **o: td.corpus_search(m, g, [TEXT, OTHER], **o), {"top": 0}),
    "token_search": Call(
        lambda m, g, c, **o: td.token_search(m, g, TEXT, pos=2, **({"allowed": range(20, 60)} | o)),
        {"precision": "half"},
    ),
    "similar_tokens": Call(
        lambda m, g, c, **o: td.similar_tokens(m, g, TEXT, pos=2, k=3, search=False, **o),
        {"metric": "manhattan"},
    ),
    "predict_masked": Call(lambda m, g, c, **o: predicted(m, **o)),
    "fit_concept": Call(lambda m, g, c, **o: td.fit_concept(m, SETS, layer=1, **(FIT | o)), {"hook": "mlp_pots"}),
    "fit_concepts": Call(lambda m, g, c, **o: td.fit_concepts(m, SETS, **(FIT | o)), {"layers": [9]}),
    "classify": Call(lambda m, g, c, **o: td.classify(m, c, TEXT, **o), {"pos": "moon"}),
    "sensitivity": Call(lambda m, g, c, **o: td.sensitivity(m, g, TEXT, concept=c, **o), {"random_directions": 0}),
    "edit_concept": Call(
        lambda m, g, c, **o: td.edit_concept(
            m, c, TEXT, **({"pos": 2, "magnitudes": 1, "starts": 1, "width": 4, "controls": False} | o)
        ),
        {"pos": "moon"},
    ),
    "replaced_activation": Call(
        lambda m, g, c, word="dog": td.replaced_activation(m, TEXT, word, pos=2, layer=1), {"word": "dog moon"}
    ),
    "gcg": Call(lambda m, g, c, **o: td.gcg(m, g, TEXT, **({"budget": 600} | o)), {"method": "epo"}),
    "epo": Call(
        lambda m, g, c, **o: td.epo(m, g, TEXT, **({"budget": 600, "method": td.EPO(population=2)} | o)),
        {"method": td.GCG()},
    ),
    "dream": Call(lambda m, g, c, **o: td.dream(m, g, TEXT, budget=800, **o), {"free": "moon"}),
    "dream: annealed": Call(lambda m, g, c, **o: annealed(m, g, TEXT, **SHORT, **o), {"start_temperature": 0}),
    "dream: article": Call(lambda m, g, c, **o: annealed(m, g, OTHER, **SHORT, article=True, start="random", **o)),
    "dream: batch": Call(
        lambda m, g, c, **o: annealed(m, g, [TEXT, OTHER], **SHORT, starts=2, noise=True, **({"candidates": 8} | o)),
        {"candidates": 1},
    ),
    "dream: bf16": Call(
        lambda m, g, c, **o: annealed(m, g, TEXT, **SHORT, **({"precision": "bf16"} | o)), {"precision": "int8"}
    ),
    "sweep": Call(lambda m, g, c, **o: swept(m, g, **o), {"workers": 2}),
    "units": Call(lambda m, g, c, **o: td.units(m, "mlp_post:all:random=3", **o), {"seed": -1}),
    "dream_many": Call(
        lambda m, g, c, **o: many(td.dream_many(m, [(g, TEXT), (g, OTHER)], budget=600, **o)), {"width": 0}
    ),
    "dream: pez": Call(lambda m, g, c, **o: td.dream(m, g, TEXT, method=td.PEZ(steps=3), **o), {"starts": 0}),
    "reconstruct": Call(
        lambda m, g, c, **o: td.reconstruct(m, TEXT, layer=1, rivals=2, **({"budget": 100} | o)), {"budget": 0}
    ),
    "reconstruct: article": Call(
        lambda m, g, c, **o: td.reconstruct(m, TEXT, layer=1, method="article", steps=2, rivals=2, **o), {"starts": 0}
    ),
    "reconstruct_layers": Call(
        lambda m, g, c, **o: td.reconstruct_layers(m, TEXT, layers=[1], budget=100, rivals=2, **o), {"damage": "int9"}
    ),
    "reconstruct_many": Call(
        lambda m, g, c, **o: many(td.reconstruct_many(m, [(TEXT, 0), (OTHER, 1)], budget=100, rivals=2, **o)),
        {"width": 0},
    ),
    "kept_tokens": Call(
        lambda m, g, c, **o: td.kept_tokens(m, TEXT, layers=[1], budget=40, rivals=2, **({"damages": "int8"} | o)),
        {"damages": "int9"},
    ),
    "essential": Call(lambda m, g, c, **o: td.essential(m, g, TEXT, **o), {"replacement": "dog"}),
    "diverse_dreams": Call(
        lambda m, g, c, **o: td.diverse_dreams(m, g, TEXT, **({"budget": 600, "count": 2} | o)), {"penalty": 2}
    ),
    "minimal_dream": Call(
        lambda m, g, c, **o: td.minimal_dream(m, g, TEXT, **({"budget": 600, "above": 1e9} | o)), {"longest": 0}
    ),
    "minimal_dream: from nothing": Call(
        lambda m, g, c, **o: td.minimal_dream(m, g, **({"budget": 600, "above": 1e9, "longest": 2} | o)), {"share": 2}
    ),
    "portrait": Call(
        lambda m, g, c, **o: td.portrait(
            m, g, [TEXT, OTHER], **({"budget": 300, "placebos": 2, "seeds": 1, "fluent": False, "tokens": False} | o)
        ),
        {"placebos": 1},
    ),
    "atlas": Call(
        lambda m, g, c, **o: td.atlas(
            m,
            [g],
            [TEXT, OTHER],
            out=Path(tempfile.mkdtemp()) / "atlas",
            **({"budget": 300, "placebos": 2, "seeds": 1, "progress": False} | o),
        ),
        {"placebos": 1},
    ),
    "placebo": Call(lambda m, g, c, **o: td.placebo(m, g, [TEXT, OTHER], count=2, **o), {"kind": "sugar"}),
    "certify": Call(
        lambda m, g, c, **o: td.certify(m, TEXT, torch.ones(m.cfg.d_model), layer=1, positions=2, rivals=2, **o),
        {"units": [999]},
    ),
}


def swept(model: Model, goal: td.Objective, **more: Any) -> object:
    """What a sweep of two pairs comes to, or the first error of a job."""
    with tempfile.TemporaryDirectory() as folder:
        status = td.sweep(model, [(goal, TEXT), (goal, OTHER)], out=folder, **({"budget": 600} | more))
        for failure in status.failures:
            raise RuntimeError(failure.why)
    return status


def many(jobs: Iterator[Any]) -> list[object]:
    """The results, or the first error of a job."""
    found = list(jobs)
    for one in found:
        if one.error is not None:
            raise one.error
    return found


NO_MODEL = {
    *("attention", "custom", "direction", "latent", "logit", "match", "neuron", "normalized"),  # make an objective
    *("load_templates", "read_examples", "read_pairs"),  # read text
    "damaged",  # computes on a tensor
    *("read_sweep", "sweep_result", "sweep_status"),  # read a folder
    *("read_text_dream", "write_text_dream"),  # files
    "load_model",  # gives one: see test_loading_a_model_leaves_the_surroundings_alone
}


def test_every_public_function_is_tried() -> None:
    functions = {name for name in td.__all__ if inspect.isfunction(getattr(td, name))}
    assert {name.split(":")[0] for name in CALLS} == functions - NO_MODEL
    takes = {name for name in NO_MODEL if "model" in inspect.signature(getattr(td, name)).parameters}
    assert not takes, "add them to CALLS"


# What is compared


def modules(model: Model) -> list[Model]:
    """All of them, those too that a bridge does not list."""
    inner = model.original_model.modules() if hasattr(model, "original_model") else ()
    return list(dict.fromkeys([*model.modules(), *inner]))


def open_files() -> list[str]:
    folder = "/proc/self/fd"
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        with suppress(OSError):  # the one that lists them
            found.append(f"{name} {os.readlink(f'{folder}/{name}')}")
    return sorted(one for one in found if not one.endswith("/fd"))


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
EVERYWHERE = tuple(f"_global{name}" for name in HOOKS if name != "_backward_pre_hooks")


def surroundings() -> dict[str, object]:
    """What belongs to the process."""
    everywhere = torch.nn.modules.module
    return {
        "torch's random numbers": torch.random.get_rng_state().numpy().tobytes(),
        "numpy's random numbers": repr(numpy.random.get_state()),
        "python's random numbers": random.getstate(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "dtype": (torch.get_default_dtype(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "device": torch.get_default_device(),
        "precision": torch.get_float32_matmul_precision(),
        "determinism": (
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads(), threading.active_count()),
        "hooks of all modules": [len(getattr(everywhere, name)) for name in EVERYWHERE],
        "verbosity": (hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled(), logging.root.level),
        "warnings": list(warnings.filters),
        "numpy's errors": numpy.geterr(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment": (dict(os.environ), os.getcwd()),
        "open files": open_files(),
    }


def snapshot(model: Model) -> dict[str, object]:
    """All that a function could leave behind, as something that == can compare."""
    points = model.hook_dict
    state: dict[str, object] = surroundings()
    for name, point in points.items():
        state[f"hooks of {name}"] = ([id(h) for h in point.fwd_hooks], [id(h) for h in point.bwd_hooks])
        state[f"context of {name}"] = dict(point.ctx)
    every = modules(model)
    state["hook points"] = {name: id(point) for name, point in points.items()}
    state["modules"] = [id(module) for module in every]
    state["training"] = [module.training for module in every]
    state["torch hooks"] = [[list(getattr(module, name).items()) for name in HOOKS] for module in every]
    state["attributes"] = [sorted(vars(module)) for module in every]
    state["settings"] = repr(sorted(vars(model.cfg).items(), key=lambda item: item[0]))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        gradient = None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist())
        values = tensor.detach().numpy().tobytes()
        state[f"tensor {name}"] = (id(tensor), tensor.data_ptr(), tensor.requires_grad, gradient, values)
    state["tokenizer"] = (id(model.tokenizer), model.tokenizer.backend_tokenizer.to_str(), repr(model.tokenizer))
    return state


def changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]


@contextmanager
def unchanged(model: Model) -> Iterator[None]:
    """A block that leaves no trace on a model and around it, be it left by an exception."""
    before = snapshot(model)
    try:
        yield
    finally:
        left = changes(before, snapshot(model))
        assert not left, f"left behind: {left}"


# On what


def ran(model: Model) -> Tensor:
    """A sentence that the model has read: the first passes of a bridge wire hooks and caches of TransformerLens' and
    Hugging Face's own."""
    with attached(model) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in (TEXT, OTHER)])
        model(ids)
        if host.kind == "bridge":
            model(ids, attention_mask=mask.long())
        return ids[:1]


class User:
    """A model that somebody works with: plain and permanent hooks, in an order of his; torch hooks; dropout on here and
    off there; frozen weights, a gradient, a padded tokenizer. His hooks report in `fired`."""

    def __init__(self, model: Model) -> None:
        self.model, self.fired = model, []
        self.raising: dict[int, BaseException] = {}
        self.ids = ran(model)
        with attached(model) as host:
            names = {short: host.resolve(short, layer) for short, layer in (("embed", None), ("z", 0), ("mlp_post", 1))}
        self.points = tuple(model.hook_dict[name].name for name in names.values())
        for short, name in names.items():
            point = model.hook_dict[name]
            point.add_hook(self.report(f"{short} plain"))
            point.add_hook(self.report(f"{short} permanent"), is_permanent=True)
            point.add_hook(self.report(f"{short} first"), prepend=True)
            if short != "embed":  # torch warns of one there, where no input has a gradient
                point.add_hook(lambda gradient, hook=None: None, dir="bwd")
            point.ctx["mine"] = [1, 2, 3]
        every = modules(model)
        every[-1].register_forward_hook(lambda module, inputs, output: None)
        every[0].register_forward_pre_hook(lambda module, inputs: None)
        model.train()
        for module in every[::3]:
            module.training = False
        parameters = list(model.parameters())
        for parameter in parameters[::2]:
            parameter.requires_grad_(False)
        parameters[1].grad = torch.ones_like(parameters[1])
        model.tokenizer([TEXT, OTHER], padding="max_length", truncation=True, max_length=7)
        self.order = self.firing()
        assert len(self.order) == 9 and self.order[:3] == ["embed first", "embed plain", "embed permanent"]

    def report(self, name: str) -> Callable[..., None]:
        def hook(activation: Tensor, hook: object = None) -> None:
            self.fired.append(name)
            if name == "z permanent" and (error := self.raising.get(self.fired.count(name))) is not None:
                raise error

        return hook

    def firing(self) -> list[str]:
        """His hooks in the order in which a plain forward pass fires them."""
        self.fired.clear()
        with torch.no_grad():
            self.model(self.ids)
        return list(self.fired)

    @contextmanager
    def breaking(self, firing: int, error: BaseException) -> Iterator[None]:
        """One of his hooks raises, in the n-th pass."""
        self.fired.clear()
        self.raising[firing] = error
        try:
            yield
        finally:
            self.raising.clear()


@pytest.fixture(scope="module", params=EVERY)
def every_kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def user(every_kind: str, tiny_folder: Path, tiny_causal_folder: Path) -> User:
    return User(load_every(every_kind, tiny_folder, tiny_causal_folder))


@pytest.fixture(scope="module")
def bare(every_kind: str, tiny_folder: Path, tiny_causal_folder: Path) -> Model:
    """A model as it was loaded: without hooks some searches compute what they read in its place."""
    model = load_every(every_kind, tiny_folder, tiny_causal_folder)
    ran(model)
    return model


@pytest.fixture(scope="module")
def concept(bare: Model) -> td.ConceptVector:
    return td.fit_concept(bare, SETS, layer=1, **FIT)


in_turn = pytest.mark.parametrize(
    ("every_kind", "name"),
    [(EVERY[number % len(EVERY)], name) for number, name in enumerate(CALLS)],
    indirect=["every_kind"],
    scope="module",
)
"""Every function on one kind, each kind with its share: what takes hold of a model and lets it go is one piece."""


# How a call ends


COMPOSED = {
    name
    for name in CALLS
    if name.split(":")[0]
    in (
        *("sweep", "dream_many", "reconstruct_layers", "reconstruct_many", "kept_tokens", "gcg", "epo"),
        *("diverse_dreams", "minimal_dream", "portrait", "atlas", "placebo"),
    )
}
"""Searches by other names, and what is put together of functions that are tried on every kind themselves."""


def on_every(kinds: Sequence[str]) -> pytest.MarkDecorator:
    """Every function on each kind; of COMPOSED each on one, in turn."""
    pairs = [
        (kind, name)
        for number, name in enumerate(CALLS)
        for kind in (kinds if name not in COMPOSED else [kinds[number % len(kinds)]])
    ]
    return pytest.mark.parametrize(("every_kind", "name"), pairs, indirect=["every_kind"], scope="module")


@on_every(EVERY)
def test_normal_use(user: User, concept: td.ConceptVector, name: str) -> None:
    user.fired.clear()
    with unchanged(user.model):
        found = CALLS[name].run(user.model, GOAL, concept)
    if isinstance(found, SavedResult) and name != "sweep":  # whose manifest has it
        assert found.provenance is not None and set(user.points) <= set(found.provenance.hooks)
    assert name == "count_bigrams" or set(user.order[:6]) <= set(user.fired), "the user's hooks did not fire inside"
    assert user.firing() == user.order


@on_every(BACKENDS)
def test_a_model_without_hooks(bare: Model, concept: td.ConceptVector, name: str) -> None:
    with unchanged(bare):
        CALLS[name].run(bare, GOAL, concept)


class Mine(Exception):
    """The user's own."""


def interrupted(*_: object) -> None:
    raise Mine


def broken_goal(after: int) -> td.Objective:
    calls: list[int] = []

    def mine(acts: dict[str, Tensor]) -> Tensor:
        calls.append(1)
        if len(calls) > after:
            raise Mine
        return acts["x"][:, 1, 3]

    return td.custom(mine, {"x": ("mlp_post", 1)})


@in_turn
def test_an_exception_in_what_the_user_wrote(user: User, concept: td.ConceptVector, name: str) -> None:
    """His objective, in its first call and in a later one, and his callback."""
    options = inspect.signature(getattr(td, name.split(":")[0])).parameters
    refuse = ("dream: article", "placebo", "portrait")  # take none of his
    takes_one = ("objective" in options or name == "fluency") and name not in refuse
    for after in (0, 3) if takes_one else ():
        with unchanged(user.model), suppress(Mine):  # some call it once
            CALLS[name].run(user.model, broken_goal(after), concept)
            assert after, "it was never called"
    if "callback" in options:
        with unchanged(user.model), pytest.raises(Mine):
            CALLS[name].run(user.model, GOAL, concept, callback=interrupted)
    assert user.firing() == user.order


@in_turn
def test_a_model_that_raises(user: User, concept: td.ConceptVector, name: str) -> None:
    """In its third forward pass, or the first where there is no third."""
    if name == "count_bigrams":
        return  # reads no model
    for firing in (3, 1):
        with unchanged(user.model), suppress(RuntimeError), user.breaking(firing, RuntimeError("the model's own")):
            CALLS[name].run(user.model, GOAL, concept)
            assert user.fired.count("z permanent") < firing, "the model's own error was swallowed"
            continue
        break
    else:
        raise AssertionError("the model never ran")
    assert user.firing() == user.order


class CtrlC(TorchFunctionMode):
    """Ctrl-C in the midst of the n-th operation of torch."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """pytest's workers take none."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("after", [30, 600])
@in_turn
def test_ctrl_c(bare: Model, concept: td.ConceptVector, name: str, after: int, python_handles_ctrl_c: None) -> None:
    mode = CtrlC(after)
    with unchanged(bare), suppress(KeyboardInterrupt), mode:
        CALLS[name].run(bare, GOAL, concept)
        assert mode.left > 0, "Ctrl-C was swallowed"


@in_turn
def test_bad_arguments(user: User, concept: td.ConceptVector, name: str) -> None:
    def refused(goal: object, **more: object) -> None:
        with unchanged(user.model), pytest.raises(td.DreamError):
            CALLS[name].run(user.model, goal, concept, **more)

    if CALLS[name].bad:
        refused(GOAL, **CALLS[name].bad)
    if "objective" in inspect.signature(getattr(td, name.split(":")[0])).parameters:
        refused(td.neuron("mlp_post", layer=1, unit=9999))
        no_number = td.custom(lambda acts: acts["x"][:, 1, 3] / 0.0, {"x": ("mlp_post", 1)})
        with unchanged(user.model), suppress(td.DreamError):  # a score of NaN is one, for `score`
            CALLS[name].run(user.model, no_number, concept)
    assert user.firing() == user.order


def test_where_gradients_are_off(user: User, concept: td.ConceptVector) -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), unchanged(user.model):
            CALLS["score"].run(user.model, GOAL, concept)


@pytest.mark.parametrize("layout", ["BertModel", "BertForPreTraining"])
def test_loading_a_model_leaves_the_surroundings_alone(
    tiny_checkpoint: Callable[..., Path], backend: str, layout: str
) -> None:
    """Heads that a checkpoint lacks are drawn at random, and not from the user's generator."""
    folder = str(tiny_checkpoint(layout))
    td.load_model(folder, backend=backend)  # imports what it needs
    before = surroundings()
    td.load_model(folder, backend=backend)
    with pytest.raises(td.DreamError):
        td.load_model(folder, backend=backend, dtype=torch.int8)
    assert not changes(before, surroundings())


# The watch itself

TRACES: list[tuple[str, Callable[[Model], object]]] = [
    ("hooks of", lambda model: next(iter(model.hook_dict.values())).add_hook(lambda a, hook: None)),
    ("hooks of", lambda model: model.reset_hooks()),
    ("training", lambda model: model.eval()),
    ("torch hooks", lambda model: modules(model)[-2].register_forward_hook(lambda *_: None)),
    ("tensor", lambda model: next(iter(model.parameters())).data.add_(1e-6)),
    ("tensor", lambda model: next(iter(model.parameters())).requires_grad_(True)),
    ("tensor", lambda model: [setattr(p, "grad", None) for p in model.parameters()]),
    ("tokenizer", lambda model: model.tokenizer([TEXT])),
    ("context of", lambda model: [point.ctx.clear() for point in model.hook_dict.values()]),
    ("attributes", lambda model: setattr(model, "left_over", 1)),
    ("torch's random numbers", lambda model: torch.rand(1)),
    ("numpy's random numbers", lambda model: numpy.random.rand()),
    ("python's random numbers", lambda model: random.random()),
    ("warnings", lambda model: warnings.simplefilter("ignore")),
]


@pytest.mark.parametrize(("what", "trace"), TRACES, ids=[f"{i} {what}" for i, (what, _) in enumerate(TRACES)])
def test_a_trace_would_be_seen(
    tiny_folder: Path, tiny_causal_folder: Path, what: str, trace: Callable[[Model], object]
) -> None:
    model = User(load_every(BACKENDS[-1], tiny_folder, tiny_causal_folder)).model
    before = snapshot(model)
    trace(model)
    assert any(name.startswith(what) for name in changes(before, snapshot(model)))


@pytest.mark.parametrize(
    ("what", "change", "back"),
    [
        ("dtype", lambda: torch.set_default_dtype(torch.float64), lambda: torch.set_default_dtype(torch.float32)),
        (
            "precision",
            lambda: torch.set_float32_matmul_precision("high"),
            lambda: torch.set_float32_matmul_precision("highest"),
        ),
        ("threads", lambda: torch.set_num_threads(2), lambda: torch.set_num_threads(1)),
        ("open files", lambda: FILES.append(open(__file__)), lambda: FILES.pop().close()),
    ],
)
def test_a_changed_setting_would_be_seen(what: str, change: Callable[[], object], back: Callable[[], object]) -> None:
    before = surroundings()
    change()
    seen = changes(before, surroundings())
    back()
    assert seen == [what] and not changes(before, surroundings())


FILES: list[Any] = []
