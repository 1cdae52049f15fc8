"""`reconstruct_many`: every job comes to what it comes to alone, and fails alone."""

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.reconstruction import QUICK, READ, TEXT, tensor_of
from tl_dream.models import Host
from tl_dream.reconstruction.many import ReadBack
from tl_dream.search import engine

OTHER = "a cat is here"


@pytest.mark.slow
def test_every_job_comes_to_what_it_comes_to_alone(encoder: torch.nn.Module) -> None:
    """Texts of several lengths, activations, layers, one twice; two at a time."""
    jobs = [(TEXT, 0), (OTHER, 1), (TEXT, 0), (tensor_of(encoder), 0)]
    alone = [td.reconstruct(encoder, target, layer=layer, rivals=2, **QUICK) for target, layer in jobs]
    found = list(td.reconstruct_many(encoder, iter(jobs), width=2, rivals=2, progress=False))
    assert sorted(one.number for one in found) == list(range(len(jobs)))
    for one in found:
        assert (one.target, one.layer) == jobs[one.number] and one.error is None
        result, own = one.reconstruction, alone[one.number]
        assert result.best.ids == own.best.ids and result.certified and own.certified and result.layer == own.layer
        assert result.cost.forwards == own.cost.forwards and result.certificate.tried == own.certificate.tried
        assert result.certificate.rival.error == pytest.approx(own.certificate.rival.error, rel=1e-4)
        assert result.text == READ or one.target == OTHER
        assert [len(swaps) for swaps in result.alternatives] == [len(swaps) for swaps in own.alternatives]


def test_layers_of_a_text_share_what_is_run(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens x layers run for two layers at once against one by one; each is charged as if it were alone."""
    run: list[int] = []
    plain = engine.forward

    def counted(host: Host, ids: torch.Tensor, names: list[str], **more: object) -> object:
        run.append(ids.numel() * max(int(name.split(".")[1]) + 1 for name in names))
        return plain(host, ids, names, **more)

    monkeypatch.setattr(engine, "forward", counted)
    jobs = [(TEXT, layer) for layer in (0, 1)]
    together = [one.reconstruction for one in td.reconstruct_many(encoder, jobs, progress=False)]
    shared = sum(run)
    run.clear()
    for target, layer in jobs:
        td.reconstruct(encoder, target, layer=layer, **QUICK)
    assert shared < 0.9 * sum(run), (shared, sum(run))
    assert sum(one.cost.forward_tokens for one in together) > 1.05 * shared


def test_a_job_fails_alone(encoder: torch.nn.Module) -> None:
    spoilt = tensor_of(encoder)
    spoilt[2, 3] = torch.nan
    jobs = [(TEXT, 99), (TEXT, 1), (spoilt, 0), TEXT, (torch.ones(8, 25), 0), (TEXT, 1, 2), (TEXT, None), ("", 0)]
    found = {one.number: one for one in td.reconstruct_many(encoder, jobs, progress=False)}
    told = {number: str(one.error) for number, one in found.items() if one.reconstruction is None}
    assert set(told) == {0, 2, 3, 4, 5, 6, 7} and found[1].reconstruction.certified
    assert "layer 99 does not exist" in told[0] and "1 NaN or infinite" in told[2]
    assert "(target, layer) pair" in told[3] and "(target, layer) pair" in told[5]
    assert "does not fit the hook" in told[4] and "give layer=" in told[6]


def test_the_clock_ends_them_all(encoder: torch.nn.Module) -> None:
    target = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
    jobs = [(target, 2)] * 40
    found = list(td.reconstruct_many(encoder, jobs, budget=10**9, patience=10**6, seconds=1.0, width=2, progress=False))
    assert [one.reconstruction.stopped for one in found] == ["seconds"] * 2
    assert all(len(one.reconstruction.tokens) == 8 for one in found)


def test_interrupted_it_hands_out_what_there_is(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    passes, plain = [], engine.forward

    def counted(*given: object, **more: object) -> object:
        passes.append(1)
        if len(passes) == 60:
            raise KeyboardInterrupt
        return plain(*given, **more)

    monkeypatch.setattr(engine, "forward", counted)
    jobs = [(torch.randn(8, 24, generator=torch.Generator().manual_seed(seed)), 2) for seed in range(5)]
    with pytest.raises(KeyboardInterrupt) as caught:
        list(td.reconstruct_many(encoder, jobs, width=3, progress=False))
    partial = caught.value.partial
    assert len(partial) == 3 and all(isinstance(one, ReadBack) for one in partial)
    assert all(one.reconstruction.stopped == "interrupted" for one in partial)


def test_bad_input(encoder: torch.nn.Module) -> None:
    with says("there is no job"):
        td.reconstruct_many(encoder, [])
    with says("jobs is a str: give (target, layer) pairs"):
        td.reconstruct_many(encoder, TEXT)
    with says("width = 0"):
        td.reconstruct_many(encoder, [(TEXT, 0)], width=0)
    with says("seconds = -1"):
        td.reconstruct_many(encoder, [(TEXT, 0)], seconds=-1)
    with says("unknown method"):
        td.reconstruct_many(encoder, [(TEXT, 0)], method="best")
    with says("not a model"):
        td.reconstruct_many(3, [(TEXT, 0)])


@pytest.mark.slow
def test_sentences_of_minilm_side_by_side(minilm: torch.nn.Module) -> None:
    texts = ["the old man walked along the river .", "she opened the letter and read it twice .", "prices fell ."]
    jobs = [(text, layer) for text in texts for layer in (0, 3, 5)]
    for one in td.reconstruct_many(minilm, jobs, progress=False):
        assert one.reconstruction.exact and one.reconstruction.certified, str(one.reconstruction)
