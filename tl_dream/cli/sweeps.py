"""`tl-dream sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tl_dream._errors import require
from tl_dream.cli.options import Given, choice, command, option

PATTERN = "units: block_out:0-5:all, mlp_post:3:1,5,9, z:2:head=4, block_out:all:random=50; may be repeated"
READ_BACK, PORTRAYED = "With --what reconstructions", "With --what portraits"


@command(
    "sweep",
    "Model Output allowed seed layers",
    'tl-dream sweep --units "block_out:0-5:random=50" --corpus wiki.txt --budget 200000 --seeds 3 --out units',
    what=choice("kind of job", "dreams|portraits|reconstructions", "what is made", "dreams", panel="Options"),
    units=option(list[str], None, PATTERN, "PATTERN", panel="Options"),
    texts=option(str, None, "texts to read back, one a line", file="read", panel=READ_BACK),
    rivals=option(int, None, "other tokens measured at every position", show_default="12", panel=READ_BACK),
    placebos=option(int, 20, "random directions to compare with; 0 for none", panel=PORTRAYED),
    fluent=option(bool, False, "fluent dreams as well", panel=PORTRAYED),
    tokens=option(bool, False, "the exact best tokens as well (much slower)", panel=PORTRAYED),
    out=option(str, ..., "the folder of the sweep", "FOLDER", panel="Options"),
    corpus=option(str, None, "units start from their best sentences of this text", file="read", panel="Options"),
    text=option(list[str], None, "the sentence to start from, without a corpus; may be repeated", "TEXT"),
    sentences=option(int, 10, "of the corpus, for each unit"),
    method=choice("method", "auto|anneal|gcg|epo|pez", "how to search", "auto"),
    budget=option(int, None, "a job's: forward-tokens a dream (400000; in a portrait 30000), forwards (10000)"),
    seeds=option(int, 1, "how often each job is done: with --seed and those after it"),
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
    """Thousands of dreams, portraits or reconstructions as one job, kept in a folder. Killed at any moment, the same
    command goes on.

    Without --units and --texts: what the sweep in the folder has found, and how far it is; also while it runs."""
    from tl_dream.sweeps import sweep_status, write_parquet

    jobs, other = ("texts", "units") if given.what == "reconstructions" else ("units", "texts")
    require(not getattr(given, other), f"--{other} with --what {given.what}: give --{jobs}")
    begin = bool(getattr(given, jobs))
    require(not (begin and given.status), f"--status only says how far a sweep is: leave --{jobs} out")
    require(
        begin or given.status or given.parquet is not None,
        f"nothing to do: give --{jobs}, such as --units mlp_post:3:all; or --status, to see how far the sweep is",
    )
    found = _swept(given) if begin else None
    if given.parquet is not None:
        write_parquet(given.out, given.parquet)
    return found if begin else sweep_status(given.out)


def _swept(given: Given) -> Any:
    from tl_dream.sweeps import Portraits, Reconstructions, sweep
    from tl_dream.text import DEFAULT_ALLOWED

    more: dict[str, Any] = {"model": given.loader(), "jobs": Path(given.texts) if given.texts else given.units}
    more |= {"prompt": given.text or None, "banned": given.banned or None}
    if given.what != "dreams":  # budget and allowed are its own
        own = {name: value for name in ("budget", "allowed") if (value := getattr(given, name)) is not None}
        more |= {"budget": None, "allowed": DEFAULT_ALLOWED}
        if given.what == "portraits":
            own |= {name: getattr(given, name) for name in ("placebos", "fluent", "tokens")}
            more["what"] = Portraits(**own)
        else:
            more["what"] = Reconstructions(layers=given.layers, rivals=given.rivals, **own)
    return given.call(sweep, **more)
