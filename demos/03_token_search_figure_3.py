# %% [markdown]
# # The best token at a position, exactly
#
# Figure 3 of "What does BERT dream of?" (Bäuerle and Wexler): every token of the vocabulary in one word's place, and
# what a neuron makes of it. Where a dream of one word ends below the best bar, it did not find the best word.

# %%
import os
from pathlib import Path

import tl_dream as td
from tl_dream import plotting

SMOKE = os.environ.get("TL_DREAM_SMOKE") == "1"  # tiny settings, for the tests
OUT = Path(os.environ.get("TL_DREAM_OUT", "."))

# %% [markdown]
# Unit 291 of layer 2 at "nation", as in the first demo. The search screens the vocabulary in large batches and scores
# what comes near the best one sentence at a time, so that the ranking is that of a plain loop.

# %%
bert = td.load_model("minilm")
goal = td.neuron("block_out", layer=2, unit=291, pos="nation")
sentence = "The Washington Post reported growing resentment in the nation towards the United States ."
few = "no_special no_unused ascii whole_words"
options = {"allowed": "king queen nation country war".split(), "top": 3} if SMOKE else {"allowed": few}

# %%
table = td.token_search(bert, goal, sentence, pos="nation", **options)
print(table)

# %%
ax = plotting.token_bars(table)
plotting.save_figure(ax.figure, OUT / "token_search_figure_3.png")

# %% [markdown]
# The word that changes need not be the one that is read. Which word at the start of the sentence drives the unit up at
# "nation"?

# %%
elsewhere = td.token_search(bert, goal, sentence, pos="Washington", **options)
print(elsewhere)
plotting.save_figure(plotting.token_bars(elsewhere).figure, OUT / "token_search_elsewhere.png")

# %% [markdown]
# A dream of that one word, for comparison: its best cannot be above the first bar.

# %%
dreamt = td.dream(
    bert, goal, sentence, method=td.Annealing(steps=5 if SMOKE else 100), free="nation", seed=0, progress=False
)
print(f"search: {table.top[0].token} {table.top[0].score:.4f}; dream: {dreamt.best.tokens[9]} {dreamt.best.score:.4f}")
