"""Leave no trace: every public function gives the model, its tokenizer and the random numbers back as it found them.

A new public function that takes a model needs one line in CALLS.
"""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor
from transformers.utils import logging as hf_logging

import tl_dream as td
from tl_dream.models.host import attached

TEXTS = [" a red dog", " the cat sees a moon"]
GOAL = td.neuron("mlp_post", layer=1, unit=3)
QUICK = {"steps": 3, "evaluate_every": 1}
SETS = td.read_examples(
    [f"the {{dog}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
    [f"the {{moon}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
)
FAST = {"hook": "mlp_post", "layer": 1, "random_concepts": 50, "bootstraps": 2}

Call = Callable[[torch.nn.Module], object]


def predicted(model: torch.nn.Module) -> object:
    """A causal model has no [MASK] and predicts by its logits."""
    masked = model.tokenizer.mask_token is not None
    return td.predict_masked(model, "a [MASK] dog") if masked else td.score(model, td.logit(5, pos=1), TEXTS)


# (name of the public function, optionally with a remark after a colon; how it is called)
CALLS: list[tuple[str, Call]] = [
    ("list_hooks", lambda model: td.list_hooks(model, TEXTS[0])),
    ("score", lambda model: td.score(model, GOAL, TEXTS)),
    ("score: logits", lambda model: td.score(model, td.logit(5, pos=1), TEXTS)),
    ("corpus_search", lambda model: td.corpus_search(model, GOAL, TEXTS, top=1)),
    ("token_search", lambda model: td.token_search(model, GOAL, TEXTS[0], pos=2, top=3)),
    ("similar_tokens", lambda model: td.similar_tokens(model, GOAL, TEXTS[0], pos=2, k=3)),
    ("predict_masked", lambda model: predicted(model)),
    ("fit_concept", lambda model: td.fit_concept(model, SETS, **FAST)),
    ("fit_concepts", lambda model: td.fit_concepts(model, SETS, random_concepts=50, bootstraps=2)),
    ("classify", lambda model: td.classify(model, td.fit_concept(model, SETS, **FAST), TEXTS[0])),
    ("sensitivity", lambda model: td.sensitivity(model, GOAL, TEXTS, concept=td.fit_concept(model, SETS, **FAST))),
    ("edit_concept", lambda model: td.edit_concept(model, td.fit_concept(model, SETS, **FAST), TEXTS[0], pos=2)),
    ("replaced_activation", lambda model: td.replaced_activation(model, TEXTS[0], "dog", pos=2, layer=1)),
    ("count_bigrams", lambda model: td.score(model, GOAL + td.fluency(td.count_bigrams(model, TEXTS)), TEXTS)),
    ("fluency", lambda model: td.score(model, td.fluency(model), TEXTS)),
    ("gcg", lambda model: td.gcg(model, GOAL, TEXTS, budget=2000)),
    ("epo", lambda model: td.epo(model, GOAL, TEXTS[0], budget=2000, population=2)),
    ("dream", lambda model: td.dream(model, GOAL, TEXTS[0], **QUICK)),
    ("dream: auto", lambda model: td.dream(model, GOAL, TEXTS, budget=5000)),
    ("dream: pez", lambda model: td.dream(model, GOAL, TEXTS, method="pez", steps=3)),
    ("dream: batch", lambda model: td.dream(model, GOAL, TEXTS, starts=2, noise=True, candidates=8, **QUICK)),
    ("dream: bf16", lambda model: td.dream(model, GOAL, TEXTS, precision="bf16", steps=3)),
    ("reconstruct", lambda model: td.reconstruct(model, TEXTS[0], layer=1, budget=300)),
    ("reconstruct: article", lambda model: td.reconstruct(model, TEXTS[0], layer=1, method="article", steps=2)),
    ("reconstruct_layers", lambda model: td.reconstruct_layers(model, TEXTS[0], layers=[1], budget=300)),
    ("kept_tokens", lambda model: td.kept_tokens(model, TEXTS[0], layers=[1], damages=["int8"], budget=100)),
    ("certify", lambda model: td.certify(model, TEXTS[0], torch.ones(model.cfg.d_model), layer=1, positions=2)),
    ("dream: article", lambda model: td.dream(model, GOAL, TEXTS[1], preset="article", start="random", **QUICK)),
]


def objective_that_raises(after: int) -> td.Objective:
    calls: list[int] = []

    def mine(acts: dict[str, Tensor]) -> Tensor:
        calls.append(1)
        if len(calls) > after:
            raise KeyError("mine")
        return acts["x"][:, 1, 3]

    return td.custom(mine, {"x": ("mlp_post", 1)})


def callback_that_raises(progress: td.Progress) -> None:
    raise KeyError("mine")


def no_number(above: float) -> td.Objective:
    return td.custom(lambda a: a["x"][:, 1, 3].masked_fill(a["x"][:, 1, 3] > above, torch.nan), {"x": ("mlp_post", 1)})


RAISING: list[tuple[str, Call]] = [
    ("score: objective", lambda model: td.score(model, objective_that_raises(0), TEXTS)),
    ("score: unknown unit", lambda model: td.score(model, td.neuron("mlp_post", layer=1, unit=9999), TEXTS)),
    ("score: unknown hook", lambda model: td.score(model, td.neuron("mlp_pots", layer=1, unit=1), TEXTS)),
    ("dream: objective", lambda model: td.dream(model, objective_that_raises(4), TEXTS[0], **QUICK)),
    ("dream: callback", lambda model: td.dream(model, GOAL, TEXTS[0], callback=callback_that_raises, **QUICK)),
    ("dream: no number", lambda model: td.dream(model, no_number(-100.0), TEXTS[0], **QUICK)),
]


def modules(model: torch.nn.Module) -> list[torch.nn.Module]:
    """All of them, those too that a bridge does not list."""
    inner = model.original_model.modules() if hasattr(model, "original_model") else ()
    return list(dict.fromkeys([*model.modules(), *inner]))


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def surroundings() -> dict[str, object]:
    """What belongs to the process."""
    return {
        "torch's random numbers": torch.random.get_rng_state().tolist(),
        "numpy's random numbers": repr(numpy.random.get_state()),
        "python's random numbers": random.getstate(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "dtype": (torch.get_default_dtype(), torch.is_autocast_enabled("cpu")),
        "threads": torch.get_num_threads(),
        "hooks of all modules": [
            len(getattr(torch.nn.modules.module, name)) for name in ("_global_forward_hooks", "_global_backward_hooks")
        ],
        "verbosity": (hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()),
    }


def snapshot(model: torch.nn.Module) -> dict[str, object]:
    """All that a function could leave behind, as something that == can compare."""
    points = model.hook_dict
    state: dict[str, object] = surroundings()
    for name, point in points.items():
        state[f"hooks of {name}"] = ([id(h) for h in point.fwd_hooks], [id(h) for h in point.bwd_hooks])
        state[f"context of {name}"] = dict(point.ctx)
    state["hook points"] = {name: id(point) for name, point in points.items()}
    state["modules"] = [id(module) for module in modules(model)]
    state["training"] = [module.training for module in modules(model)]
    state["torch hooks"] = [[list(getattr(module, name).items()) for name in HOOKS] for module in modules(model)]
    state["attributes"] = sorted(vars(model))
    state["settings"] = repr(sorted(vars(model.cfg).items(), key=lambda item: item[0]))
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        gradient = None if tensor.grad is None else (id(tensor.grad), tensor.grad.tolist())
        state[f"tensor {name}"] = (tensor.data_ptr(), tensor.requires_grad, gradient, tensor.tolist())
    state["tokenizer"] = (id(model.tokenizer), model.tokenizer.backend_tokenizer.to_str(), repr(model.tokenizer))
    return state


def same(before: dict[str, object], after: dict[str, object]) -> None:
    assert before.keys() == after.keys()
    changed = [name for name in before if before[name] != after[name]]
    assert not changed, f"left behind: {changed}"


def lived_in(model: torch.nn.Module) -> list[str]:
    """A model that somebody works with: his plain and permanent hooks, in an order of his; torch hooks; dropout on here
    and off there; frozen weights, a gradient, a padded tokenizer. Returns the list in which his hooks report."""
    fired: list[str] = []

    def report(name: str) -> Callable[..., None]:
        def hook(activation: Tensor, hook: object = None) -> None:
            fired.append(name)

        return hook

    with attached(model) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in TEXTS])
        model(ids)  # the first passes of a bridge wire hooks and caches of TransformerLens' and Hugging Face's own
        if host.kind == "bridge":
            model(ids, attention_mask=mask.long())
        names = {short: host.resolve(short, layer) for short, layer in (("embed", None), ("z", 0), ("mlp_post", 1))}
    for short, name in names.items():
        point = model.hook_dict[name]
        point.add_hook(report(f"{short} plain"))
        point.add_hook(report(f"{short} permanent"), is_permanent=True)
        point.add_hook(report(f"{short} first"), prepend=True)
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
    model.tokenizer(TEXTS, padding="max_length", truncation=True, max_length=7)
    return fired


def firing(model: torch.nn.Module, fired: list[str]) -> list[str]:
    """The user's hooks in the order in which a plain forward pass fires them."""
    fired.clear()
    with torch.no_grad(), attached(model) as host:
        ids, _ = host.pad([host.vocabulary.encode(TEXTS[0])])
        model(ids)
    return list(fired)


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
def test_nothing_is_left_behind(fresh_every: Callable[..., torch.nn.Module], name: str, call: Call) -> None:
    model = fresh_every()
    fired = lived_in(model)
    order = firing(model, fired)
    assert len(order) == 9 and order[:3] == ["embed first", "embed plain", "embed permanent"]
    fired.clear()
    before = snapshot(model)
    call(model)
    same(before, snapshot(model))
    assert set(order[:6]) <= set(fired), "the user's hooks did not fire inside"
    assert firing(model, fired) == order


@pytest.mark.parametrize("firings", [0, 2])
@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
def test_nothing_is_left_behind_when_a_users_hook_raises(
    fresh_every: Callable[..., torch.nn.Module], name: str, call: Call, firings: int
) -> None:
    """In the first pass, or in the midst of several."""
    model = fresh_every()
    lived_in(model)
    count: list[int] = []

    def broken(activation: Tensor, hook: object = None) -> None:
        count.append(1)
        if len(count) > firings:
            raise KeyError("the user's")

    with attached(model) as host:
        model.hook_dict[host.resolve("z", 1)].add_hook(broken)
    before = snapshot(model)
    if firings and not name.startswith("dream"):
        with suppress(KeyError):  # some take one pass, some many
            call(model)
    else:
        with pytest.raises(KeyError, match="the user's"):
            call(model)
    same(before, snapshot(model))


@pytest.mark.parametrize(("name", "call"), RAISING, ids=[name for name, _ in RAISING])
def test_nothing_is_left_behind_when_it_raises_inside(
    fresh_every: Callable[..., torch.nn.Module], name: str, call: Call
) -> None:
    model = fresh_every()
    fired = lived_in(model)
    order = firing(model, fired)
    before = snapshot(model)
    with pytest.raises((KeyError, td.DreamError)):
        call(model)
    same(before, snapshot(model))
    assert firing(model, fired) == order


def test_nothing_is_left_behind_where_gradients_are_off(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    lived_in(model)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            before = snapshot(model)
            CALLS[3][1](model)
            same(before, snapshot(model))


@pytest.mark.parametrize("layout", ["BertModel", "BertForPreTraining"])
def test_loading_a_model_leaves_the_surroundings_alone(
    tiny_checkpoint: Callable[..., Path], backend: str, layout: str
) -> None:
    """Heads that a checkpoint lacks are drawn at random, and not from the user's generator."""
    folder = str(tiny_checkpoint(layout))
    random.seed(1)
    numpy.random.seed(2)
    torch.manual_seed(3)
    before = surroundings()
    td.load_model(folder, backend=backend)
    same(before, surroundings())


def test_every_public_function_that_takes_a_model_is_tried() -> None:
    takes = {
        name
        for name in td.__all__
        if inspect.isfunction(function := getattr(td, name)) and "model" in inspect.signature(function).parameters
    }
    assert {"score", "dream", "list_hooks"} <= takes
    assert takes <= {name.split(":")[0] for name, _ in CALLS}, "add the missing ones to CALLS"


# The watch itself

TRACES: list[tuple[str, Callable[[torch.nn.Module], object]]] = [
    ("hooks of", lambda model: next(iter(model.hook_dict.values())).add_hook(lambda a, hook: None)),
    ("hooks of", lambda model: model.reset_hooks()),
    ("training", lambda model: model.eval()),
    ("torch hooks", lambda model: modules(model)[-2].register_forward_hook(lambda *_: None)),
    ("tensor", lambda model: next(iter(model.parameters())).data.add_(1e-6)),
    ("tensor", lambda model: next(iter(model.parameters())).requires_grad_(True)),
    ("tensor", lambda model: [setattr(p, "grad", None) for p in model.parameters()]),
    ("tokenizer", lambda model: model.tokenizer(TEXTS)),
    ("context of", lambda model: [point.ctx.clear() for point in model.hook_dict.values()]),
    ("torch's random numbers", lambda model: torch.rand(1)),
    ("numpy's random numbers", lambda model: numpy.random.rand()),
    ("python's random numbers", lambda model: random.random()),
    ("attributes", lambda model: setattr(model, "left_over", 1)),
]


@pytest.fixture
def watched(fresh_encoder: Callable[..., torch.nn.Module]) -> Iterator[torch.nn.Module]:
    model = fresh_encoder()
    lived_in(model)
    yield model


@pytest.mark.parametrize(("kind", "trace"), TRACES, ids=[f"{i} {kind}" for i, (kind, _) in enumerate(TRACES)])
def test_a_trace_would_be_seen(watched: torch.nn.Module, kind: str, trace: Callable[[torch.nn.Module], object]) -> None:
    before = snapshot(watched)
    trace(watched)
    after = snapshot(watched)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    assert any(name.startswith(kind) for name in changed), changed
