"""The room models.isolation; what the user's hooks see is tried in tests/models/test_host.py."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

import tl_dream as td
from tl_dream.models.isolation import user_hooks, without_user_hooks

UNITS = [(layer, unit) for layer in (0, 1) for unit in (1, 3)]


@contextmanager
def _default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def called(model: torch.nn.Module) -> tuple[object, ...]:
    goal = td.neuron("mlp_pre", layer=1, unit=3, pos=2)
    run = td.dream(model, goal, "the red dog .", budget=300, seed=1)
    back = td.reconstruct(model, "the dog .", layer=0, budget=200, rivals=2)
    return td.score(model, goal, "i love my dog").item(), run.best.text, run.best.score, back.text, back.exact


@pytest.fixture(scope="module")
def alone(tiny_encoder: torch.nn.Module) -> tuple[object, ...]:
    return called(tiny_encoder)


@pytest.mark.parametrize(
    "around",
    [
        _default_dtype,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.device("meta"),
        torch.no_grad,
        torch.inference_mode,
    ],
)
def test_a_call_gives_what_it_gives_alone(
    tiny_encoder: torch.nn.Module, alone: tuple[object, ...], around: Callable[[], AbstractContextManager]
) -> None:
    state = torch.get_default_dtype(), torch.is_grad_enabled()
    with around():
        inside = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
        assert called(tiny_encoder) == alone
        assert inside == (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled())
    assert state == (torch.get_default_dtype(), torch.is_grad_enabled())


def test_threads_on_one_model(tiny_encoder: torch.nn.Module) -> None:
    """Each gets its own numbers, and the model's modes and hooks are as found once the last is over."""
    tiny_encoder.train()
    texts = ["the red dog .", "i love my small old house .", "i hate kickshaws ."]

    def scores(which: tuple[int, int]) -> list[float]:
        return td.score(tiny_encoder, td.neuron("block_out", layer=which[0], unit=which[1], pos=1), texts).tolist()

    alone = [scores(which) for which in UNITS]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(2):
            assert list(threads.map(scores, UNITS * 3)) == alone * 3
    assert all(module.training for module in tiny_encoder.modules()) and not user_hooks(tiny_encoder)
    tiny_encoder.eval()


def test_the_users_hooks_sleep_and_come_back() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Identity())
    seen: list[str] = []
    model[0].register_forward_hook(lambda *_: seen.append("first"))
    model[1].register_forward_pre_hook(lambda *_: seen.append("second"))
    before = [(module._forward_hooks, module._forward_pre_hooks) for module in model]
    assert user_hooks(model)
    with without_user_hooks(model):
        assert not user_hooks(model)
        model(torch.zeros(1, 2))
    assert not seen
    after = [(module._forward_hooks, module._forward_pre_hooks) for module in model]
    assert all(a is b for pair in zip(before, after, strict=True) for a, b in zip(*pair, strict=True))
    model(torch.zeros(1, 2))
    assert seen == ["first", "second"]
