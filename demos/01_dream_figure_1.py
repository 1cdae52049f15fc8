# %% [markdown]
# # A dream, and how it was found
#
# Figure 1 of "What does BERT dream of?" (Bäuerle and Wexler): the tokens over the optimisation steps, beside the score
# of the soft sentence, the score of the real tokens and the temperature. Run it as a script or open it as a notebook.

# %%
import os
from dataclasses import replace
from pathlib import Path

import tl_dream as td
from tl_dream import plotting

SMOKE = os.environ.get("TL_DREAM_SMOKE") == "1"  # tiny settings, for the tests
OUT = Path(os.environ.get("TL_DREAM_OUT", "."))

# %% [markdown]
# Unit 291 of layer 2 (`block_out` is a block's output after its LayerNorm, what the article calls a layer) at "nation".

# %%
bert = td.load_model("minilm")
goal = td.neuron("block_out", layer=2, unit=291, pos="nation")
sentence = "The Washington Post reported growing resentment in the nation towards the United States ."

# %%
result = td.dream(
    bert, goal, sentence, method=td.Annealing(steps=10 if SMOKE else 200), starts=1 if SMOKE else 4, seed=0
)
print(result)

# %% [markdown]
# The soft sentence climbs high at first, but the real tokens do not follow: what it mixes is no text. Only as the
# temperature falls do the two scores meet. The best real tokens are kept, wherever on the way they were seen.

# %%
ax = plotting.dream_history(result)
plotting.save_figure(ax.figure, OUT / "dream_figure_1.png")

# %% [markdown]
# In one panel, as the article draws it.

# %%
ax = plotting.dream_history(result, tokens=False)
plotting.save_figure(ax.figure, OUT / "dream_figure_1_panel.png")

# %% [markdown]
# The article's own settings climb from an almost uniform start, at a temperature that stays high for long: the first
# few hundred of its 3,000 steps settle nothing.

# %%
article = td.dream(bert, goal, sentence, method=replace(td.ARTICLE, steps=2 if SMOKE else 300), seed=0)
print(article)
ax = plotting.dream_history(article)
plotting.save_figure(ax.figure, OUT / "dream_figure_1_article.png")

# %% [markdown]
# Annealing is the article's method and not the best one. The default goes from real text to real text, and ends far
# higher for the same number of forward-tokens; it has no soft sentence and no temperature.

# %%
found = td.dream(bert, goal, sentence, budget=10_000 if SMOKE else 80_000, seed=0)
print(found)
ax = plotting.dream_history(found)
plotting.save_figure(ax.figure, OUT / "dream_figure_1_default.png")
