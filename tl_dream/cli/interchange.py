"""`tl-dream import` and `tl-dream export`: the article's files."""

from __future__ import annotations

from typing import Any

import typer

from tl_dream.cli.options import Given, choice, command, drawn, option
from tl_dream.cli.output import OWN, show

FILE = typer.Argument(..., metavar="FILE", help="a JSON file of the article (text-dream)")
RESULT = typer.Argument(..., metavar="RESULT", help="a result that --json saved")


@command(
    "import",
    "Output",
    "tl-dream import 1_dream.json --figure dream.png",
    file=(str, FILE, "read"),
    show=choice("record", "best|last", "of an annealed run: the best real tokens, or the last, as the article", "best"),
    figure=drawn(OWN, "the article's figure of it"),
)
def read(given: Given) -> Any:
    """Read a file of "What does BERT dream of?": print, draw or save it as a result of ours.

    Its dreams, softmax weights, token searches, similar tokens, reconstructions and shifted reconstructions are known
    by their type."""
    from tl_dream.interchange import read_text_dream

    return read_text_dream(given.file, show=given.show)


@command(
    "export",
    "quiet",
    "tl-dream export dream.json --out 3_dream.json",
    file=(str, RESULT, "read"),
    out=option(str, ..., "the file of the article's format", file="written", panel="Output"),
    pos=option(int, None, "of an annealed dream: write the softmax weights of this position", "N", panel="Output"),
)
def write(given: Given) -> None:
    """Write a saved result as a file that the article's page (text-dream) shows.

    The result is one of `dream`, `token-search`, `similar`, `reconstruct` or `concept edit`, saved with --json."""
    from tl_dream.interchange import as_result, write_text_dream
    from tl_dream.results import read_json

    write_text_dream(as_result(read_json(given.file)), given.out, pos=given.pos)
    if not given.quiet:
        show(f"wrote {given.out}")
