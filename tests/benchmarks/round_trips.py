"""Whether tokens come back from their own text: by tables, beside the tokenizer itself, on MiniLM's vocabulary.

    python tests/benchmarks/round_trips.py --rows 1000000

Rows of 16 tokens of several kinds: random ones, and hostile ones (short pieces, many pieces, punctuation, every id, a
word of three random pieces). Prints how many are answered otherwise, and sequences a CPU second on one core.
"""

from __future__ import annotations

import argparse
import time

import numpy
import torch

import tl_dream as td
from tl_dream.models import attached
from tl_dream.text.round_trips import RoundTrips

AT_ONCE = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000, help="random ones, and as many hostile ones")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = td.load_model("minilm")
    draw = numpy.random.default_rng(given.seed)
    with attached(model) as host:
        vocabulary = host.vocabulary
        words = vocabulary.tokens(range(vocabulary.d_vocab))
        allowed = vocabulary.allowed().nonzero().flatten().numpy()
        pieces = numpy.array([i for i in allowed if words[i].startswith("##")])
        marks = numpy.array([i for i in allowed if not words[i].replace("##", "").isalnum()])
        short = numpy.array([i for i in allowed if len(words[i].replace("##", "")) <= 2])

        def mixed(some: numpy.ndarray, others: numpy.ndarray, share: float, count: int) -> numpy.ndarray:
            rows, at = draw.choice(some, (count, 14)), draw.random((count, 14)) < share
            rows[at] = draw.choice(others, int(at.sum()))
            return rows

        def word(count: int) -> numpy.ndarray:
            rows = mixed(numpy.setdiff1d(allowed, pieces), pieces, 0.0, count)
            rows[:, 6:8] = draw.choice(pieces, (count, 2))
            return rows

        hostile = {
            "short pieces": lambda count: mixed(short, numpy.intersect1d(short, pieces), 0.4, count),
            "many pieces": lambda count: mixed(allowed, pieces, 0.5, count),
            "punctuation": lambda count: mixed(marks, pieces, 0.2, count),
            "every id": lambda count: draw.integers(0, vocabulary.d_vocab, (count, 14)),
            "a word of three": word,
        }
        began = time.process_time()
        known = RoundTrips(vocabulary.tokenizer, vocabulary.d_vocab, vocabulary._asked)
        known([(101, int(i), 102) for i in allowed])
        print(f"tables and {len(allowed)} tokens by themselves: {time.process_time() - began:.1f} s, once a vocabulary")
        kinds = {"random": (lambda count: draw.choice(allowed, (count, 14)), given.rows)}
        kinds |= {name: (make, given.rows // len(hostile)) for name, make in hostile.items()}
        for name, (make, total) in kinds.items():
            seconds, wrong, good = [0.0, 0.0], 0, 0
            for start in range(0, total, AT_ONCE):
                rows = [(101, *row, 102) for row in make(min(AT_ONCE, total - start)).tolist()]
                clock = time.process_time()
                told = known(rows)
                between = time.process_time()
                expected = vocabulary._asked(rows)
                seconds = [seconds[0] + between - clock, seconds[1] + time.process_time() - between]
                wrong += sum(a != b for a, b in zip(told, expected, strict=True))
                good += sum(expected)
            rates = [total / clock for clock in seconds]
            print(
                f"{name:16} {total:9,} rows, {good / total:4.0%} come back, {wrong} told otherwise; "
                f"{rates[0]:9,.0f} a second, the tokenizer {rates[1]:7,.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
