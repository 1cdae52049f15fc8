"""The default dream against brute force, on a real BERT with an alphabet of 20 letters.

    pip download antiberty==0.1.3 --no-deps && unzip -d antiberty antiberty-0.1.3-py3-none-any.whl
    python tests/benchmarks/brute_force.py antiberty

AntiBERTy (MIT; 8 layers, 512 wide) reads proteins. Two and three letters of a sequence are free: 400 and 8,000 texts,
all scored; the dream has the default budget. 64 units of mlp_post, block_out, z and resid_mid in turn, of layers,
positions and sequences drawn at random.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from itertools import product
from pathlib import Path

import torch

import tl_dream as td

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
SEQUENCES = (
    "E V Q L V E S G G G L V Q P",
    "D I Q M T Q S P S S L S",
    "Q V Q L Q Q S G A E L V R P G A",
    "A A G G Y Y W F D V",
)
HOOKS = {"mlp_post": 2048, "block_out": 512, "z": 512, "resid_mid": 512}


def load(source: Path) -> torch.nn.Module:
    """The published weights as a BertForMaskedLM, which is what they are but for two more heads."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    weights = next(source.rglob("pytorch_model.bin"))
    known = BertConfig().to_dict()
    fields = json.loads((weights.parent / "config.json").read_text())
    model = BertForMaskedLM(BertConfig(**{key: value for key, value in fields.items() if key in known}))
    state, own = torch.load(weights, map_location="cpu", weights_only=True), model.state_dict()
    model.load_state_dict({key: value for key, value in state.items() if key in own})
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        BertTokenizer(str(next(source.rglob("vocab.txt"))), do_lower_case=False).save_pretrained(folder)
        return td.load_model(folder)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("source", type=Path, help="the unpacked wheel")
    options.add_argument("--cases", type=int, default=64)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    model, draw, found = load(given.source), random.Random(given.seed), []
    codes = [model.tokenizer.convert_tokens_to_ids(letter) for letter in LETTERS]
    for number in range(given.cases):
        text = draw.choice(SEQUENCES)
        length, hook = len(text.split()), list(HOOKS)[number % 4]
        layer, unit, pos = draw.randrange(8), draw.randrange(HOOKS[hook]), draw.randrange(1, length + 1)
        free = sorted(draw.sample(range(1, length + 1), 2 + number // 4 % 2))
        goal = td.neuron(hook, layer=layer, unit=unit, pos=pos)
        rows = torch.tensor(model.tokenizer(text)["input_ids"]).repeat(20 ** len(free), 1)
        rows[:, free] = torch.tensor(list(product(codes, repeat=len(free))))
        best = max(
            float(td.score(model, goal, [td.Prompt(ids=row) for row in part.tolist()]).max())
            for part in rows.split(400)
        )
        began = time.process_time()
        dream = td.dream(model, goal, text, free=free, seed=number, progress=False)
        found.append(dream.best.score >= best - 1e-4 * max(1.0, abs(best)))
        print(
            f"{number}: {dream.objective}, {text!r}, free {free}: best of all {best:.4f}, dream {dream.best.score:.4f}"
            f"{'' if found[-1] else ' MISSED'}, stopped by {dream.stopped}, {time.process_time() - began:.1f} CPU s",
            flush=True,
        )
    print(f"the best of all texts in {sum(found)} of {len(found)} cases")


if __name__ == "__main__":
    main()
