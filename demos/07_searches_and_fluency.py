# %% [markdown]
# # What a dream costs, and what readable text costs it
#
# The article's annealing ends below the corpus most of the time. Here every method gets the same budget of
# forward-tokens from the same sentence; then activation is traded against fluency.

# %%
import os
from pathlib import Path

import tl_dream as td
from tl_dream import plotting

SMOKE = os.environ.get("TL_DREAM_SMOKE") == "1"  # tiny settings, for the tests
OUT = Path(os.environ.get("TL_DREAM_OUT", "."))

# %%
bert = td.load_model("minilm")
goal = td.neuron("block_out", layer=2, unit=291, pos=9)
sentence = "The Washington Post reported growing resentment in the nation towards the United States ."
budget = 8_000 if SMOKE else 60_000
seeds = range(1 if SMOKE else 3)

# %% [markdown]
# A line is the median over the seeds of the best real tokens so far.

# %%
methods = ("auto", "gcg") if SMOKE else ("auto", "gcg", "epo", "pez", "anneal")
dreams = {
    method: [td.dream(bert, goal, sentence, method=method, budget=budget, seed=seed, progress=False) for seed in seeds]
    for method in methods
}
for method, runs in dreams.items():
    print(f"{method:8}", *(f"{run.best.score:.3f}" for run in runs), runs[0].best.text)
plotting.save_figure(plotting.search_costs(dreams).figure, OUT / "search_costs.png")

# %% [markdown]
# Fluency needs a judge. all-MiniLM-L6-v2 carries no language-model head, so bigrams are counted; give `count_bigrams` a
# text file of your own for a judge that knows more than these lines.

# %%
lines = [
    "The region of the nation was reported by the post .",
    "The book of the united states was in the country .",
    "In the nation the page of the book was lost .",
    "The command of the united nations was growing in the country .",
]
judge = td.fluency(td.count_bigrams(bert, lines))
front = td.epo(bert, goal, sentence, method=td.EPO(fluency=judge), budget=budget, progress=False)
print(front)
plotting.save_figure(plotting.pareto(front).figure, OUT / "pareto.png")

# %% [markdown]
# Or with one weight of your choice, by the default method.

# %%
readable = td.dream(bert, goal + 0.3 * judge, sentence, budget=budget, progress=False)
print(readable)
