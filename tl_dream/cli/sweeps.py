"""`tl-dream sweep`."""

from __future__ import annotations

from typing import Any

from tl_dream._errors import require
from tl_dream.cli.options import Given, choice, command, option

PATTERN = "units: block_out:0-5:all, mlp_post:3:1,5,9, z:2:head=4, block_out:all:random=50; may be repeated"


@command(
    "sweep",
    "Model Output allowed seed",
    'tl-dream sweep --units "block_out:0-5:random=50" --corpus wiki.txt --budget 200000 --seeds 3 --out units',
    units=option(list[str], None, PATTERN, "PATTERN", panel="Options"),
    out=option(str, ..., "the folder of the sweep", "FOLDER", panel="Options"),
    corpus=option(str, None, "each unit starts from its best sentences of this text", file="read", panel="Options"),
    text=option(list[str], None, "the sentence to start from, without a corpus; may be repeated", "TEXT"),
    sentences=option(int, 10, "of the corpus, for each unit"),
    method=choice("method", "auto|anneal|gcg|epo|pez", "how to search", "auto"),
    budget=option(int, None, "forward-tokens a dream", show_default="400000"),
    seeds=option(int, 1, "how often each unit is dreamed: with --seed and those after it"),
    max_changes=option(int, None, "words that may differ from the start's at most"),
    banned=option(list[str], None, "a token not to choose, exactly so; may be repeated", "TOKEN"),
    no_retokenize=option(bool, False, "take tokens whose text does not tokenize back to them as well"),
    engine=choice("engine", "auto|joblib|dask", "who computes", "auto", panel="Workers"),
    workers=option(int, 1, "processes on this machine", panel="Workers"),
    scheduler=option(str, None, "with --engine dask: the address of the cluster", "ADDRESS", panel="Workers"),
    threads=option(int, None, "of torch in a worker", show_default="a share of the processors", panel="Workers"),
    width=option(int, None, "dreams side by side in a worker", show_default="64, or 256 on a GPU", panel="Workers"),
    status=option(bool, False, "only say how far it is, when it will end, and what failed", panel="Output"),
    parquet=option(str, None, "write the table of what was found (Parquet)", file="written", panel="Output"),
)
def sweep(given: Given) -> Any:
    """Dream of thousands of units as one job, kept in a folder. Killed at any moment, the same command goes on.

    Without --units: what the sweep in the folder has found, and how far it is; also while it runs."""
    from tl_dream.sweeps import sweep_status, write_parquet

    if not given.units:
        require(
            given.status or given.parquet is not None,
            "no units to dream of: give --units, such as mlp_post:3:all; or --status, to see how far the sweep is",
        )
        if given.parquet is not None:
            write_parquet(given.out, given.parquet)
        return sweep_status(given.out)
    require(not given.status, "--status only says how far a sweep is: leave --units out")
    from tl_dream.sweeps import sweep

    more = {"model": given.loader(), "jobs": given.units, "prompt": given.text or None, "banned": given.banned or None}
    found = given.call(sweep, **more)
    if given.parquet is not None:
        write_parquet(given.out, given.parquet)
    return found
