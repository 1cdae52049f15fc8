"""What the tests of several rooms share: editing."""

import torch

import tl_dream as td
from tl_dream.editing.sentence_pool import MovedTarget
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.results.edits import Change, ConceptEdit, EditRow

TEXT = "the dog can see he run"


def activation(model: torch.nn.Module, name: str, ids: list[int]) -> torch.Tensor:
    with attached(model) as host, torch.no_grad():
        return forward(host, torch.tensor([ids]), [name])[name][0]


def aims_of(model: torch.nn.Module, text: str, names: list[str], seed: int = 0, size: float = 3.0) -> list[MovedTarget]:
    """Random moves of one position."""
    draw = torch.Generator().manual_seed(seed)
    with attached(model) as host:
        sentence = host.vocabulary.read(text)
        made = []
        for name in names:
            change = torch.zeros(len(sentence), 24)
            change[2] = size * torch.randn(24, generator=draw)
            made.append(MovedTarget(name, change))
    return made


def made_edit(*rows: EditRow, tokens: tuple[str, ...] = ("[CLS]", "he", "lost", "his", "dog", "[SEP]")) -> ConceptEdit:
    return ConceptEdit(
        "tiny (HookedEncoder)",
        "he -> she",
        "block_out",
        "he",
        "she",
        " ".join(tokens[1:-1]),
        tokens,
        (1,),
        rows,
        {"3": 2.0},
        {"3": 1.0},
        {"magnitudes": [1.0]},
        0,
        td.results.Cost(10, 100, 1.0),
    )


def made_row(magnitude: float, control: str | None, *changes: Change, layer: int | None = 3) -> EditRow:
    tokens = ["[CLS]", "he", "lost", "his", "dog", "[SEP]"]
    for change in changes:
        tokens[change.pos] = change.after
    text = " ".join(tokens[1:-1])
    return EditRow(layer, magnitude, control, text, tuple(tokens), changes, 0.25, 1.0, 0.5, 0.1)


SHE, HER, CAT = (
    Change(1, "he", "she", "concept", 1.0),
    Change(3, "his", "her", "concept", 0.5),
    Change(4, "dog", "cat", "other", 0.0),
)
