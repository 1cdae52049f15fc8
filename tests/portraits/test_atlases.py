"""Pages of many units: what they hold, what they escape, and how they behave in a real browser."""

import html
import json
import random
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import WORDS, says
from tests.support.hostile import RESULTS, in_bytes
from tests.support.portraits import CORPUS, EITHER, TOKEN, A, goal
from tl_dream.portraits.atlases import Named, unit_page, write_pages
from tl_dream.results import Measure, PortraitDream, Standing

EVIL = "</script><script>alert(1)</script>"
QUICK = {"placebos": 2, "seeds": 1, "budget": 300}
ABOUT = {"model": "tiny", "corpus": "lines.txt"}


def made(count: int, seed: int = 0) -> list[tuple[Named, td.Portrait]]:
    """Portraits with numbers and words drawn at random; every tenth has EVIL for a token."""
    (base,) = [one for one in RESULTS if isinstance(one, td.Portrait)]
    draw, pages = random.Random(seed), []
    for i in range(count):
        layer, unit = divmod(i, 50)
        tokens = ("[CLS]", *draw.sample(WORDS, 5), EVIL if i % 10 == 0 else "x", "[SEP]")
        whole = replace(
            base.best.whole, text=" ".join(tokens), tokens=tokens, ids=tuple(range(8)), score=draw.uniform(1, 9)
        )
        numbers = {"without": (0.1,) * 6, "alone": (0.2,) * 6, "pairs": ()}
        best = replace(base.best, whole=whole, free=tuple(range(1, 7)), kept=(1, 6), **numbers)
        far = draw.choice([0.0, 8.0])
        numbers = [(draw.gauss(far, 1), tuple(draw.gauss(0, 1) for _ in range(9))) for _ in range(4)]
        measures = tuple(Measure(f"measure {k}", True, *values) for k, values in enumerate(numbers))
        page = replace(base, best=best, dreams=(PortraitDream("seed 0", best),), standing=Standing(measures))
        name = Named(goal(0), f"mlp_post-{layer}-{unit}", f"mlp_post {layer} / {unit}", f"layer {layer}", layer, unit)
        pages.append((name, page))
    return pages


def folder_of(tmp_path: Path, count: int) -> tuple[Path, list[tuple[Named, td.Portrait]]]:
    folder, pages = tmp_path / "atlas", made(count)
    (folder / "units").mkdir(parents=True)
    write_pages(folder, pages, ["mlp_post 9 / 9"], ABOUT)
    return folder, pages


def test_tokens_of_bytes_are_shown_as_text() -> None:
    (base,) = [in_bytes(one) for one in RESULTS if isinstance(one, td.Portrait)]
    page = unit_page("one", "one", base)
    assert "café" in page and "Ġ" not in page and "Ã" not in page


def test_text_of_models_is_escaped(tmp_path: Path) -> None:
    folder, pages = folder_of(tmp_path, 20)
    (named, page) = pages[0]
    text = unit_page(named.label, named.slug, page)
    assert EVIL not in text and html.escape(EVIL) in text
    data = (folder / "units.js").read_text("utf-8")
    assert "</script" not in data and "\\u003c/script" in data
    rows = json.loads(data.removeprefix("window.ATLAS=").rstrip(";\n"))
    assert len(rows) == 20 and EVIL in rows[0][-1] and rows[1][0] == "mlp_post-0-1"


def test_pages_are_small_and_need_no_network(tmp_path: Path) -> None:
    folder, _ = folder_of(tmp_path, 20)
    files = sorted(folder.rglob("*.html"))
    assert len(files) == 21 and max(file.stat().st_size for file in files) < 200_000
    for file in files:
        links = re.findall(r"""(?:href|src)=["']([^"']+)""", file.read_text("utf-8"))
        assert links and not [link for link in links if "//" in link or link.startswith("/")]
        local = [link for link in links if link.endswith((".html", ".js"))]
        assert all((file.parent / link).is_file() for link in local)


def test_a_page_says_what_the_portrait_says(tmp_path: Path) -> None:
    for named, page in made(12):
        text = unit_page(named.label, named.slug, page, before="mlp_post-0-0")
        verdict = "random directions by: " if page.distinguished else "Nothing distinguishes this unit"
        assert verdict in text and ("Stands out" in text) == page.distinguished
        assert (
            f"{page.standing.deviations:+.1f} deviations" in text and 'rel="prev"' in text and 'rel="next"' not in text
        )
        assert f'<span class="t kept">{page.best.whole.tokens[1]}</span>' in text
        bare = replace(page, standing=None, tokens=None)
        assert "random directions</h2>" not in unit_page(named.label, named.slug, bare)


def test_an_atlas_of_planted_units(known: torch.nn.Module, tmp_path: Path) -> None:
    out = tmp_path / "atlas"
    units = [("mlp_post", 0, TOKEN), ("mlp_post", 0, EITHER)]
    index = td.atlas(known, units[:1], CORPUS, out=out, **QUICK)
    assert index == out / "index.html"
    file = out / "units" / f"mlp_post-0-{TOKEN}.json"
    page, written = td.Portrait.load(file), file.stat().st_mtime_ns
    assert page.best.tokens == (A,)
    units[1] = td.units(known, f"mlp_post:0:{EITHER}")[0]
    td.atlas(known, [*units, goal(TOKEN, 2)], CORPUS, out=out, **QUICK)  # goes on: what is there is not made again
    assert file.stat().st_mtime_ns == written
    names = {path.stem for path in (out / "units").glob("*.html")}
    assert names == {f"mlp_post-0-{TOKEN}", f"mlp_post-0-{EITHER}", "objective-2"}
    file.write_text("{")
    td.atlas(known, [*units, goal(TOKEN, 2)], CORPUS, out=out, **QUICK)
    assert td.Portrait.load(file).best.tokens == (A,)
    with says("holds another atlas, of another settings"):
        td.atlas(known, units, CORPUS, out=out, **{**QUICK, "budget": 301})


def test_bad_input(known: torch.nn.Module, tmp_path: Path, unchecked: None) -> None:
    unit = [("mlp_post", 0, TOKEN)]
    (tmp_path / "thesis.txt").write_text("mine")
    with says("holds something else than an atlas"):
        td.atlas(known, unit, CORPUS, out=tmp_path, **QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.txt"]
    with says("is a file"):
        td.atlas(known, unit, CORPUS, out=tmp_path / "thesis.txt", **QUICK)
    with says("can't be made a folder"):
        td.atlas(known, unit, CORPUS, out=tmp_path / "thesis.txt" / "atlas", **QUICK)
    for given, told in (([], "no unit given"), (unit * 2, "is given twice"), ("mlp_post", "give a list of")):
        with says(told):
            td.atlas(known, given, CORPUS, out=tmp_path / "none", **QUICK)
    assert not (tmp_path / "none").exists()
    with says("the corpus is empty"):
        td.atlas(known, unit, [], out=tmp_path / "empty", **QUICK)
    index = td.atlas(known, unit, ["the dog sees"], out=tmp_path / "silent", **QUICK)
    assert "Never vary over the corpus" in index.read_text("utf-8")


# A real browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium")


def opened(file: Path, tmp_path: Path, script: str = "") -> tuple[str, list[str]]:
    """The page after its scripts ran, and what the console was told; `script` runs in it, as a user's hands would."""
    page = file.with_name(f"try-{file.name}")
    page.write_text(file.read_text("utf-8").replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--enable-logging=stderr", "--virtual-time-budget=4000", "--dump-dom"]
    command = [
        str(CHROMIUM),
        *options,
        "--enable-logging=stderr",
        "--virtual-time-budget=4000",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    page.unlink()
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


TYPED = """
const type = text => { at("q").value = text; at("q").dispatchEvent(new Event("input")); };
const rowsNow = () => [...document.querySelectorAll("#rows a")].map(a => a.textContent);
const told = {}; told.first = rowsNow(); told.cells = document.querySelectorAll(".grid a").length;
at("s").value = "height"; at("s").dispatchEvent(new Event("change")); told.height = rowsNow();
dispatchEvent(new KeyboardEvent("keydown", { key: "/" })); told.focused = document.activeElement.id;
type("%s");
setTimeout(() => {
  told.found = rowsNow(); told.off = document.querySelectorAll(".grid a.off").length; type("");
  setTimeout(() => {
    const first = document.querySelector(".grid a"); first.focus();
    dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" })); told.moved = document.activeElement.title;
    document.body.dataset.told = JSON.stringify(told);
  }, 300);
}, 300);
"""


@browser
def test_search_sort_and_keys_in_a_browser(tmp_path: Path) -> None:
    folder, pages = folder_of(tmp_path, 120)
    word = next(page.best.tokens[0] for _, page in pages if page.best.tokens[0] not in ("dog", "cat", "red"))
    dom, console = opened(folder / "index.html", tmp_path, TYPED % word)
    assert not console
    told = json.loads(html.unescape(re.search(r'data-told="([^"]*)"', dom)[1]))
    by = {named.label: page for named, page in pages}
    assert told["cells"] == 120 and len(told["first"]) == 100 and told["focused"] == "q"
    far = [round(by[label].standing.deviations, 2) for label in told["first"]]
    assert (
        far
        == sorted(far, reverse=True)
        == sorted((round(p.standing.deviations, 2) for p in by.values()), reverse=True)[:100]
    )
    heights = [by[label].height(by[label].best.whole.score) for label in told["height"]]
    assert heights[0] == max(page.height(page.best.whole.score) for page in by.values())
    assert all(a >= b - 0.01 for a, b in zip(heights, heights[1:], strict=False))
    holding = {
        label
        for label, page in by.items()
        if word in {*page.best.tokens, *(t for c in page.common for t in c.tokens), "dog"}
    }
    assert set(told["found"]) == holding and told["off"] == 120 - len(holding)
    assert told["moved"].startswith(pages[1][0].label)
    assert "alert(1)" not in re.sub(
        r"<[^>]*>", "", "".join(re.findall(r"<script>.*?</script>", dom, re.S)).replace(EVIL, "")
    )


@browser
def test_a_unit_page_in_a_browser(tmp_path: Path) -> None:
    folder, pages = folder_of(tmp_path, 3)
    dom, console = opened(
        folder / "units" / f"{pages[0][0].slug}.html",
        tmp_path,
        "document.body.dataset.marks = document.querySelectorAll('svg .dream').length",
    )
    assert not console and 'data-marks="1"' in dom and html.escape(EVIL, quote=False) in dom
