"""An encoder whose units are set by hand, so that what they look for is known to the last token."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import tl_dream as td
from tests.conftest import VOCAB, write_bert

A, B, C = "moon", "river", "bread"
TOKEN, FOLLOWED, EITHER, COUNT = range(4)
"""Units of mlp_post, layer 0: fires for A; for A followed by B; for A or C; for the count of A."""

WIDTH, CONTEXT = 64, 16
AXES = {name: 16 + i for i, name in enumerate(("a", "b", "c", "before", "count"))}
SCALE = 4.0
REST = 60
"""The dimensions from here on take up what keeps the mean of all at 0."""


def goal(unit: int, pos: object = None) -> td.Objective:
    return td.neuron("mlp_post", layer=0, unit=unit, pos=pos)


def write_planted(folder: Path) -> Path:
    """A BERT of two layers. Its first 16 dimensions tell the position; then an axis for A, for B, for C, for "the word
    before is A" and for "the share of A in the sentence"; the others are random and belong to all tokens alike. Head 0
    of layer 0 looks at the position before, head 1 at all alike; both pass on whether there is an A."""
    write_bert(folder, "BertModel", layers=2, width=WIDTH, heads=4, mlp=200, context=CONTEXT)
    file = folder / "model.safetensors"
    w = load_file(file)
    draw = torch.Generator().manual_seed(5)
    words = torch.randn(len(VOCAB), WIDTH, generator=draw)
    words[:, :22] = words[:, REST:] = 0
    words[:, 22:REST] -= words[:, 22:REST].mean(1, keepdim=True)
    words *= SCALE / words.norm(dim=1, keepdim=True)
    for token, axis in ((A, "a"), (B, "b"), (C, "c")):
        words[VOCAB.index(token)] = 0
        words[VOCAB.index(token), AXES[axis]] = SCALE
    places = torch.zeros(CONTEXT, WIDTH)
    places[:, :CONTEXT] = SCALE / 2 * torch.eye(CONTEXT)
    for table in (words, places):  # a LayerNorm takes the mean away: here there is none
        table[:, REST:] = -table.sum(1, keepdim=True) / (WIDTH - REST)
    embeddings = "embeddings"
    w[f"{embeddings}.word_embeddings.weight"] = words
    w[f"{embeddings}.position_embeddings.weight"] = places
    w[f"{embeddings}.token_type_embeddings.weight"] = torch.zeros(2, WIDTH)
    for name in [name for name in w if name.endswith("LayerNorm.weight")]:
        w[name] = torch.ones(WIDTH)
        w[name.replace("weight", "bias")] = torch.zeros(WIDTH)
    query, key, value, out = (torch.zeros(WIDTH, WIDTH) for _ in range(4))
    for i in range(1, CONTEXT):
        query[i - 1, i] = key[i - 1, i - 1] = 4.0  # head 0: the position before
    value[0, AXES["a"]] = value[16, AXES["a"]] = 1.0
    out[AXES["before"], 0], out[AXES["count"], 16] = 0.5, 2.0
    out[REST:] = -out.sum(0, keepdim=True) / (WIDTH - REST)
    first = "encoder.layer.0"
    for name, weight in zip(
        ("self.query", "self.key", "self.value", "output.dense"), (query, key, value, out), strict=True
    ):
        w[f"{first}.attention.{name}.weight"] = weight
        w[f"{first}.attention.{name}.bias"] = torch.zeros(WIDTH)
    into, bias = w[f"{first}.intermediate.dense.weight"], w[f"{first}.intermediate.dense.bias"]
    into[:4], bias[:4] = 0, 0
    into[:4, 22:REST] = 0.05 * torch.randn(4, REST - 22, generator=draw)  # no two words are quite alike to a unit
    into[TOKEN, AXES["a"]], bias[TOKEN] = 3.0, -10.0
    into[FOLLOWED, AXES["b"]], into[FOLLOWED, AXES["before"]], bias[FOLLOWED] = 4.0, 8.0, -34.0
    into[EITHER, AXES["a"]], into[EITHER, AXES["c"]], bias[EITHER] = 3.0, 3.0, -10.0
    into[COUNT, AXES["count"]], bias[COUNT] = 20.0, -1.0
    save_file(w, file, metadata={"format": "pt"})
    return folder


CORPUS = [
    "the red dog sees a small cat .",
    "i hate my old house and the cold wind",
    "she can read the long letter in the garden",
    "the king and the queen love music",
    "a bright star is over the sea",
    "they said no word to the child",
    "we drink milk and eat fish",
    "the moon river is over the dark sea",
    "he gave the bread to a friend",
    "the teacher can sing a slow song",
    "a black horse ran to the door",
    "you know the name of my book",
    "snow and rain and fire and stone",
    "the doctor will give water to the man",
    "my warm bread is on the tree",
    "your sweet wine came with the bird",
]
