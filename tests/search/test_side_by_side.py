"""The room search.side_by_side: jobs of any kind, handed out as they end."""

import torch

from tests.support.search import START, UNIT, batch_of
from tl_dream.models.host import Host
from tl_dream.search.asks import Ask, Search
from tl_dream.search.side_by_side import side_by_side


def test_jobs_are_handed_out_as_they_end_and_read_as_room_gets_free(encoder: torch.nn.Module) -> None:
    begun: list[int] = []

    def task(host: Host, rounds: int) -> Search[int]:
        begun.append(rounds)
        batch = batch_of(host, [START])
        for _ in range(rounds):
            yield Ask(host, batch, (UNIT,), [(0, batch.sentences[0].ids)])
        if rounds == 3:
            raise ValueError("three")
        return rounds

    found = side_by_side(
        encoder,
        iter([5, 1, 3, 2]),
        task,
        lambda number, job, result, error: (number, job, result, str(error)),
        what="number",
        width=2,
        on_cpu=1,
        ends=None,
        progress=False,
    )
    assert not begun and next(found) == (1, 1, 1, "None") and begun == [5, 1]
    assert sorted(found) == [(0, 5, 5, "None"), (2, 3, None, "three"), (3, 2, 2, "None")]
