# %% [markdown]
# # What does a unit look for?
#
# The article's dreams were words at random, and a search that works lifts any direction. So this page asks anew: which
# words carry a dream, do other dreams and people's sentences agree, and would a random direction have looked the same?
#
# The unit was chosen by looking at many. Of 64 units of one MLP drawn at random
# (`python tests/benchmarks/portraits.py atlas --hook mlp_post --layer 2 --units 64 --out atlas`) 56 stood out from
# random directions; of those whose dreams all shared something, this is one whose best sentences say the same.

# %%
import os
import re
from dataclasses import replace
from pathlib import Path

import tl_dream as td
from tl_dream import plotting

SMOKE = os.environ.get("TL_DREAM_SMOKE") == "1"  # tiny settings, for the tests
OUT = Path(os.environ.get("TL_DREAM_OUT", "."))
CORPUS = Path(os.environ.get("TL_DREAM_CORPUS", "../shared/data/corpus/wikitext2_valid.txt"))

# %% [markdown]
# The corpus is WikiText-2's validation split; any text file with a sentence a line will do. Where there is none, a few
# lines of our own stand in.

# %%
lines = [
    "All you had to do was show some identification .",
    "They are only as interested in you as they think you are in the job .",
    "The old man walked slowly along the river with his dog .",
    "Prices of oil fell sharply in the last week of the year .",
]
if CORPUS.exists() and not SMOKE:
    parts = [part for line in CORPUS.read_text("utf-8").splitlines() for part in re.split(r"(?<= \.) (?=[A-Z])", line)]
    lines = [part.strip() for part in parts if part.strip().endswith(" .") and "<unk>" not in part]
print(f"{len(lines):,} sentences")

# %% [markdown]
# One call: the unit's best sentences, dreams by seed, diverse ones that pay for words used before, fluent ones, the
# exact best tokens at the place that fires, and twenty random directions dreamed of in the same way.

# %%
bert = td.load_model("minilm")
unit = ("mlp_post", 2, 32)
few = {"seeds": 1, "placebos": 2, "fluent": False, "tokens": False, "budget": 600}
page = td.portrait(bert, unit, lines, **(few if SMOKE else {}))
print(page)

# %%
plotting.save_figure(plotting.portrait(page).figure, OUT / "portrait.png")

# %% [markdown]
# It looks for *you*: being addressed. A form of the word carries every dream, though nobody asked for it; it is the
# word at which people's sentences fire most; it and its forms are the vocabulary's best tokens at that place; dreams of
# random directions do without it, and lie far lower.
#
# Beside it the article's dream of the same unit from the same sentence, with the article's own settings, and ours.

# %%
goal = td.neuron("mlp_post", layer=2, unit=32)
start = page.dreams[0].essential.whole.text if SMOKE else "All you had to do was show some identification ."
article = td.dream(bert, goal, start, method=replace(td.ARTICLE, steps=2 if SMOKE else 1000), progress=False)
ours = td.dream(bert, goal, start, budget=2_000 if SMOKE else 100_000, progress=False)
for name, dream in (("start", article.start), ("article", article.best), ("ours", ours.best)):
    print(f"{name:8} {dream.score:6.2f} ({page.height(dream.score):5.1f} deviations above the corpus)  {dream.text}")
