"""The room models.batching."""

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tl_dream as td
from tests.support.scans import PART, SENTENCE, Model, found_by, one_by_one
from tl_dream.models.batching import default_batch_tokens, in_batches, length_groups
from tl_dream.scans import substitutions
from tl_dream.scans.tokens import token_search


def test_length_groups() -> None:
    assert length_groups([3, 9, 3, 4], 1000) == [[0, 2, 3, 1]]
    assert length_groups([3, 9, 3, 4], 8) == [[0, 2], [3], [1]]
    assert length_groups([3, 9, 3, 4], 1000, equal_lengths=True) == [[0, 2], [3], [1]]
    assert length_groups([5, 5, 5], 1) == [[0], [1], [2]]


@pytest.mark.parametrize(("gigabytes", "plain"), [(8, 1), (24, 1), (80, 2), (140, 4), (1000, 4)])
def test_a_large_gpu_has_larger_passes_but_for_gradients(
    gigabytes: int, plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as can be tried without one."""
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=gigabytes * 2**30)
    )
    host: Any = SimpleNamespace(device=torch.device("cuda"))
    asked = inspect.unwrap(default_batch_tokens)
    assert asked(host, None) == plain * 65_536 and asked(host, None, True) == 65_536 and asked(host, 7) == 7


@pytest.mark.parametrize("precision", ["auto", "bf16", "full"])
def test_every_precision_gives_the_same(encoder: Model, precision: str) -> None:
    goal = td.neuron("block_out", layer=2, unit=7, pos=4)
    table = token_search(encoder, goal, SENTENCE, pos=4, precision=precision, allowed=PART, progress=False)
    assert [(row.id, row.score) for row in table.top] == one_by_one(encoder, goal, SENTENCE, 4)
    if precision != "auto":
        assert table.screen.startswith({"bf16": "bfloat16, rows", "full": "float32, rows"}[precision])


def test_a_model_in_float64_is_searched_in_float64(tiny_encoder64: Model) -> None:
    goal = td.neuron("block_out", layer=2, unit=7, pos=4)
    assert found_by(tiny_encoder64, goal, SENTENCE, pos=4) == one_by_one(tiny_encoder64, goal, SENTENCE, 4)


def test_too_little_memory_makes_smaller_batches(encoder: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = td.neuron("block_out", layer=2, unit=7, pos=4)
    expected = found_by(encoder, goal, SENTENCE, pos=4)
    sizes = []
    whole = substitutions.IncrementalBert.__call__

    def small(self: Any, tokens: torch.Tensor) -> Any:
        sizes.append(len(tokens))
        if len(tokens) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(self, tokens)

    monkeypatch.setattr(substitutions.IncrementalBert, "__call__", small)
    assert found_by(encoder, goal, SENTENCE, pos=4) == expected
    assert max(sizes) > 10 and min(sizes) < 10


def test_batches_are_as_small_as_asked(encoder: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    goal = td.neuron("block_out", layer=2, unit=7, pos=4)
    expected = found_by(encoder, goal, SENTENCE, pos=4)
    sizes = []
    whole = substitutions.IncrementalBert.__call__
    monkeypatch.setattr(
        substitutions.IncrementalBert,
        "__call__",
        lambda self, tokens: (sizes.append(len(tokens) * self.rows_run), whole(self, tokens))[1],
    )
    assert found_by(encoder, goal, SENTENCE, pos=4, batch_tokens=50) == expected
    assert 40 < max(sizes) <= 50


def test_bf16_is_asked_of_the_hardware() -> None:
    assert substitutions.bf16_is_faster(torch.device("meta")) is False
    assert isinstance(substitutions.bf16_is_faster(torch.device("cpu")), bool)


class Memory:
    """Work that fits `room` items at a time."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error = room, error
        self.sizes: list[int] = []

    def __call__(self, items: list[int]) -> list[int]:
        self.sizes.append(len(items))
        if len(items) > self.room:
            raise self.error
        return list(items)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_batches_shrink_until_they_fit(error: Exception) -> None:
    memory, seen = Memory(3, error), []
    found = in_batches(list(range(20)), 16, memory, seen.append)
    assert [item for part in found for item in part] == list(range(20))
    assert memory.sizes[:4] == [16, 8, 4, 2]
    assert max(memory.sizes[3:]) == 2, "what was learnt is kept"
    assert sum(seen) == 20


def test_memory_too_small_for_one_and_other_errors_are_told() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        in_batches([1, 2], 2, Memory(0, torch.OutOfMemoryError("CUDA out of memory")))
    memory = Memory(1, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        in_batches([1, 2], 2, memory)
    assert memory.sizes == [2]
