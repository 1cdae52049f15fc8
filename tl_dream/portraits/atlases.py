"""`atlas`: a folder of pages, one a unit and an index over them, that open without a server."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from tqdm.auto import tqdm

from tl_dream._arguments import Number, Whole
from tl_dream._errors import DreamError, keeping, require
from tl_dream.models import Host, attached, deadline
from tl_dream.objectives import Objective, check
from tl_dream.portraits.comparison import read_choices, settings_of
from tl_dream.portraits.placebos import Texts, held
from tl_dream.portraits.portraying import BUDGET, Painter, as_objective
from tl_dream.results import Portrait, read_json, readable, write_bytes, write_json
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Corpus

AT_ONCE, A_PASS = 16, 1024
"""Units whose dreams go on side by side: an interruption loses no more of them; units that share a pass over the
corpus."""

MARKER = "atlas.json"


@dataclass(frozen=True)
class Named:
    """A unit of an atlas.

    Attributes:
        goal: its objective.
        slug: the name of its files.
        label: how it is called.
        place: its hook and layer, which the index groups by.
        layer, unit: as numbers; None where that is not known.
    """

    goal: Objective
    slug: str
    label: str
    place: str
    layer: int | None
    unit: int | None


def atlas(
    model: Any,
    units: Iterable[Any],
    corpus: Texts,
    *,
    out: str | os.PathLike[str],
    seeds: Whole = 2,
    placebos: Whole = 20,
    fluent: bool = False,
    tokens: bool = False,
    budget: Whole = BUDGET,
    seconds: Number | None = None,
    column: str | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    seed: Whole = 0,
    progress: bool | None = None,
) -> Path:
    """Portraits of many units as static pages: an index, a page a unit, and its JSON beside it.

    The index sorts by what makes a unit interesting, and searches by token. Nothing comes from the network; text of
    models is escaped. What random directions of a hook come to is found once for all its units. A call that was
    interrupted goes on where it stopped: portraits that the folder holds are not made again.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        units: ("mlp_post", 4, 414), what `units` gives, or objectives.
        corpus: as in `corpus_search`.
        out: the folder; made where it is not there.
        seeds, placebos, fluent, tokens, budget, allowed, seed: as in `portrait`. Fluent dreams and the exact best
            tokens take longer than all else, and are left out unless asked for.
        seconds: to take at most, by the wall clock, but for the units that are under way; the next call goes on.
        column: of a data set, as in `corpus_search`.
        progress: show a progress bar; None shows it on a terminal only.

    Returns:
        The index, to open in a browser.

    Raises:
        DreamError: a folder that holds something else, or another atlas; no unit, or one given twice; a corpus that is
            empty; bad input (see the message). A unit that never varies over the corpus has no page; the index says so.
        DreamError, KeyboardInterrupt: what ends it (Ctrl-C too) leaves pages of units so far; `partial` is the index.

    Examples:
        >>> lines = ["i hate my small old house .", "the red dog sees a cat .", "we drink milk and eat fish ."]
        >>> units = [("block_out", 1, unit) for unit in range(2)]
        >>> td.atlas(bert, units, lines, out="atlas", placebos=2, seeds=1, budget=300).name
        'index.html'
    """
    chosen = read_choices(seeds, placebos, fluent, tokens, budget, allowed, seed)
    folder, ends = Path(out), deadline(seconds)
    with attached(model) as host:
        given = named(host, units)
        texts = held(corpus)
        about = {
            "kind": "atlas",
            "version": 1,
            "model": host.name,
            "corpus": Corpus.of(texts, column).name,
            "settings": settings_of(chosen),
        }
        open_folder(folder, about)
        known = dict(_known(folder, given, host))
        left = iter([one for one in given if one.slug not in known])
        painter = Painter(host, texts, column, None, chosen) if len(known) < len(given) else None
        silent: list[str] = []
        disable, late = None if progress is None else not progress, False

        def index() -> Path:
            write_pages(folder, [(one, known[one.slug]) for one in given if one.slug in known], silent, about)
            return folder / "index.html"

        with (
            keeping(lambda *_: index()),
            tqdm(total=len(given), initial=len(known), disable=disable, desc="atlas", unit="unit", leave=False) as bar,
        ):
            while painter is not None and not late and (some := list(islice(left, A_PASS))):
                looked = list(zip(some, painter.look([one.goal for one in some]), strict=True))
                alive = [(one, seen) for one, seen in looked if seen.corpus is not None]
                silent += [one.label for one, seen in looked if seen.corpus is None]
                bar.update(len(some) - len(alive))
                while alive and not late:
                    part, alive = alive[:AT_ONCE], alive[AT_ONCE:]
                    pages = painter.paint([seen for _, seen in part])
                    for (one, _), page in zip(part, pages, strict=True):
                        page.save(folder / "units" / f"{one.slug}.json")
                        known[one.slug] = page
                    bar.update(len(part))
                    late = time.perf_counter() >= ends
        return index()


def named(host: Host, units: Any) -> list[Named]:
    """The units, by the names of their files.

    Raises:
        DreamError: none, or one given twice.
    """
    require(
        isinstance(units, Iterable) and not isinstance(units, str | bytes),
        f"units is a {type(units).__name__}: give a list of (hook, layer, unit), or of objectives",
    )
    found: dict[str, Named] = {}
    for number, one in enumerate(units):
        goal = check(host, as_objective(one))
        read = goal.reads[0]
        if goal.unit is not None and goal.where == (None, "max"):
            head, unit = goal.unit
            inner = "" if head is None else f", head {head}"
            place = read.hook + ("" if read.layer is None else f", layer {read.layer}") + inner
            parts = [part for part in (read.hook, read.layer, head, unit) if part is not None]
            slug = re.sub(r"[^A-Za-z0-9_.]+", "-", "-".join(map(str, parts)))
            made = Named(goal, slug, f"{place} / {unit}", place, read.layer, unit)
        else:
            made = Named(goal, f"objective-{number}", repr(goal), "objectives", None, None)
        require(made.slug not in found, f"{made.label} is given twice: give each unit once")
        found[made.slug] = made
    require(bool(found), "no unit given: give at least one (hook, layer, unit)")
    return list(found.values())


def open_folder(folder: Path, about: dict[str, Any]) -> None:
    """Make the folder of an atlas, or go on with one.

    Raises:
        DreamError: it holds something else, or an atlas of another model, corpus or settings.
    """
    given = repr(str(folder))
    try:
        require(not folder.exists() or folder.is_dir(), f"{given} is a file: give the name of a folder")
        marker = folder / MARKER
        if folder.is_dir() and any(folder.iterdir()):
            require(
                marker.is_file(),
                f"the folder {given} holds something else than an atlas: give a folder that is empty or not there",
            )
            other = read_json(marker)
            differ = [key for key, value in about.items() if not isinstance(other, dict) or other.get(key) != value]
            require(
                not differ,
                f"the folder {given} holds another atlas, of another {', '.join(differ)}: give another folder, or go "
                "on with the same options",
            )
        (folder / "units").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"{given} can't be made a folder: {error.strerror or error}; give another place") from error
    write_json(folder / MARKER, about)


def _known(folder: Path, given: Sequence[Named], host: Host) -> Iterator[tuple[str, Portrait]]:
    """The portraits that the folder holds already; a broken file is made again."""
    for one in given:
        file = folder / "units" / f"{one.slug}.json"
        if file.is_file():
            try:
                page = Portrait.load(file)
            except DreamError:
                continue
            if page.objective == repr(one.goal) and page.model == host.name:
                yield one.slug, page


def write_pages(
    folder: Path, pages: Sequence[tuple[Named, Portrait]], silent: Sequence[str], about: dict[str, Any]
) -> None:
    """The index, its data, and a page a unit."""
    slugs = [one.slug for one, _ in pages]
    for i, (one, page) in enumerate(pages):
        around = {"before": slugs[i - 1] if i else None, "after": slugs[i + 1] if i + 1 < len(slugs) else None}
        write_bytes(folder / "units" / f"{one.slug}.html", unit_page(one.label, one.slug, page, **around).encode())
    data = json.dumps([_row(one, page) for one, page in pages], ensure_ascii=False, separators=(",", ":"))
    data = data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    write_bytes(folder / "units.js", f"window.ATLAS={data};\n".encode())
    shown = {"model": about["model"], "corpus": about["corpus"], "count": len(pages), "silent": silent}
    text = _templates().get_template("index.html").render(style=_style(), **shown)
    write_bytes(folder / "index.html", text.encode())


def _row(one: Named, page: Portrait) -> list[Any]:
    """A unit in the index: what it is sorted and searched by."""
    texts = [dream.essential for dream in page.dreams]
    peaks = [hit.tokens[hit.pos] for hit in page.corpus.top if hit.pos is not None]
    common = [token for one in (*page.common, *page.neighbourhoods) for token in one.tokens]
    words = dict.fromkeys(map(readable, [*(token for text in texts for token in text.tokens), *common, *peaks]))
    best = max(page.height(text.whole.score) for text in texts)
    placed = page.standing
    return [
        one.slug,
        one.label,
        one.place,
        one.layer,
        one.unit,
        None if placed is None else round(placed.deviations, 2),
        int(page.distinguished),
        round(best, 2),
        len(page.best.kept),
        None if placed is None else round(placed.measures[2].unit, 3),
        page.best.whole.text,
        page.best.short,
        " ".join(words).lower(),
    ]


def unit_page(label: str, slug: str, page: Portrait, before: str | None = None, after: str | None = None) -> str:
    """A portrait as a page of HTML."""
    values = [value for hit in page.corpus.top for value in hit.activations or () if value is not None]
    highest = max(values, default=0.0)
    sentences = [
        (
            hit,
            [
                (readable(token), _share(value or 0.0, highest), i == hit.pos)
                for i, (token, value) in enumerate(
                    zip(hit.tokens, hit.activations or [None] * len(hit.tokens), strict=True)
                )
                if 0 < i < len(hit.tokens) - 1 and abs(i - (hit.pos or 0)) <= REACH
            ],
        )
        for hit in page.corpus.top
    ]
    drops = page.best.drops
    measures = page.standing.measures if page.standing else ()
    text: str = (
        _templates()
        .get_template("unit.html")
        .render(
            style=_style(),
            label=label,
            slug=slug,
            page=page,
            before=before,
            after=after,
            sentences=sentences,
            depths=[_share(drop, max(drops)) for drop in drops],
            chart=_chart(page),
            strips=[(one, _strip([one.unit, *one.placebos])) for one in measures],
        )
    )
    return text


REACH = 24
"""Tokens on either side of a sentence's peak that a page shows."""


def _share(value: float, highest: float) -> float:
    return round(min(1.0, max(0.0, value / highest)), 2) if highest > 0 else 0.0


def _chart(page: Portrait) -> dict[str, Any]:
    """The histogram in an SVG of 640 by 190: its bars, ticks and dreams."""
    scores = [(one.essential.whole.score, one.kind) for one in page.dreams]
    low, high = page.edges[0], max([page.edges[-1], *(score for score, _ in scores)])
    scale = 620 / (high - low)
    tall = math.log1p(max(page.counts)) or 1.0

    def x(value: float) -> float:
        return round(10 + max(0.0, value - low) * scale, 1)

    bars = []
    for i, count in enumerate(page.counts):
        height = round(130 * math.log1p(count) / tall, 1)
        if count:
            left, right = x(page.edges[i]), x(page.edges[i + 1])
            bars.append((left, round(150 - height, 1), max(0.6, round(right - left - 0.4, 1)), height))
    ticks = [(x(low + i * (high - low) / 6), f"{low + i * (high - low) / 6:.2f}") for i in range(7)]
    ticks[0], ticks[-1] = (max(22.0, ticks[0][0]), ticks[0][1]), (min(615.0, ticks[-1][0]), ticks[-1][1])
    return {"bars": bars, "ticks": ticks, "dreams": [(x(score), f"{kind}: {score:.3f}") for score, kind in scores]}


def _strip(values: Sequence[float]) -> list[float]:
    """Places of numbers on a strip of 260."""
    low, high = min(values), max(values)
    return [round(8 + 244 * ((value - low) / (high - low) if high > low else 0.5), 1) for value in values]


@cache
def _templates() -> Environment:
    folder = Path(__file__).with_name("pages")
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["readable"] = readable
    return made


@cache
def _style() -> Markup:
    """Our own, and the only thing that is not escaped."""
    return Markup(Path(__file__).with_name("pages").joinpath("style.css").read_text("utf-8"))
