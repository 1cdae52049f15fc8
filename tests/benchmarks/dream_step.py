"""How much faster a step of `dream` is than a step written as the article describes it, as ratios in one run.

    python tests/benchmarks/dream_step.py

The article's step: a dense softmax over the vocabulary at every position, a forward pass through all layers, the
gradient by `backward()`, Adam, and a second forward pass for the snapped tokens. It is run as a TransformerLens user
would write it (`model(...)`, which computes the MLM head as well) and, to be fair to the authors' own model, which had
no head, on the trunk alone (`model.encoder_output(...)`). Both sides climb the same unit of the last layer of MiniLM
from the same sentence of 28 tokens, 26 of them free. A `dream` step is the wall time of a whole `dream()`, its scoring
of real tokens and its history included, divided by its steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import tl_dream as td

TEXT = (
    "job duties for professional painters include removing old paint , priming surfaces , choosing materials , "
    "selecting and mixing colors and cleaning up job sites"
)
UNIT, POS = 42, 5


def article_step(model: object, head: bool) -> Callable[[], None]:
    """One optimisation step as the article describes it, on a HookedEncoder."""
    tokens = model.to_tokens([TEXT])[0]
    W_E = model.W_E.detach()
    logits = torch.nn.functional.one_hot(tokens, W_E.shape[0]).to(W_E.dtype)
    before, after = logits[:, :1].clone(), logits[:, -1:].clone()
    modify = logits[:, 1:-1].clone().requires_grad_()
    optimizer = torch.optim.Adam([modify], lr=0.1)
    run = model if head else model.encoder_output
    last = f"blocks.{model.cfg.n_layers - 1}.hook_normalized_resid_post"

    def activation(embedding: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        kept = {}
        hooks = [("embed.hook_embed", lambda t, hook: embedding), (last, lambda t, hook: kept.update(out=t))]
        with model.hooks(fwd_hooks=hooks):
            run(ids)
        return kept["out"][0, POS, UNIT]

    def step() -> None:
        optimizer.zero_grad()
        dense = torch.cat([before, torch.softmax(modify / 2.0, -1), after], 1)
        loss = -activation(dense @ W_E, tokens)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            ids = torch.cat([before, torch.softmax(modify / 2.0, -1), after], 1).argmax(-1)
            activation(W_E[ids], ids)

    return step


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Median wall time of one call, after one warm-up."""
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--steps", type=int, default=200, help="steps of each dream() timed")
    options.add_argument("--repeats", type=int, default=2, help="times each measurement is repeated")
    given = options.parse_args()
    model = td.load_model("minilm", backend="hooked")
    goal = td.neuron("block_out", layer=model.cfg.n_layers - 1, unit=UNIT, pos=POS)
    rows: list[tuple[str, float, int]] = []
    for head, name in ((True, "article, model(...)"), (False, "article, trunk alone")):
        step = article_step(model, head)
        rows.append((name, seconds(lambda step=step: [step() for _ in range(5)], given.repeats) / 5, 1))
    for parameter in model.parameters():
        parameter.grad = None

    def dreaming(starts: int, **settings: object) -> float:
        return (
            seconds(
                lambda: td.dream(
                    model,
                    goal,
                    TEXT,
                    method=td.Annealing(steps=given.steps, **settings),
                    starts=starts,
                    progress=False,
                ),
                given.repeats,
            )
            / given.steps
        )

    rows.append(("dream()", dreaming(1), 1))
    rows.append(("dream(), whole vocabulary", dreaming(1, candidates=None), 1))
    rows.append(("dream(starts=16)", dreaming(16), 16))
    print(f"all-MiniLM-L6-v2 on {type(model).__name__}, block_out of the last layer, 26 free tokens of 28,")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians of {given.repeats}\n")
    print(f"{'':28}{'ms a step':>10}{'dreams':>8}{'throughput against: model(...)':>32}{'trunk alone':>14}")
    for name, wall, dreams in rows:
        ratios = [base * dreams / wall for _, base, _ in rows[:2]]
        print(f"{name:28}{wall * 1e3:10.1f}{dreams:8}{ratios[0]:31.1f}x{ratios[1]:13.1f}x")


if __name__ == "__main__":
    main()
