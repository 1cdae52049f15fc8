# %% [markdown]
# # One word, annealing
#
# Figure 2 of "What does BERT dream of?" (Bäuerle and Wexler): the softmax over the vocabulary of one free word at
# several steps. A falling temperature makes it settle on one token. Run it as a script or open it as a notebook.

# %%
import os
from pathlib import Path

import tl_dream as td
from tl_dream import plotting

SMOKE = os.environ.get("TL_DREAM_SMOKE") == "1"  # tiny settings, for the tests
OUT = Path(os.environ.get("TL_DREAM_OUT", "."))

# %%
bert = td.load_model("minilm")
goal = td.neuron("block_out", layer=2, unit=291, pos="nation")
prompt = td.Prompt(
    "The Washington Post reported growing resentment in the nation towards the United States .", free="nation"
)

# %% [markdown]
# One word is free, and it chooses from the whole vocabulary (`candidates=0`). What it settles on need not beat the
# start: the gradient was that of a mixture. `dream` returns the best real tokens it saw, the start included.

# %%
result = td.dream(bert, goal, prompt, method=td.Annealing(candidates=None, steps=10 if SMOKE else 200), seed=0)
print(result)
ax = plotting.annealing(result, "nation")
plotting.save_figure(ax.figure, OUT / "annealing_figure_2.png")

# %% [markdown]
# The same word in a dream of the whole sentence, where every position changes at once, at steps of your own choice.

# %%
whole = td.dream(bert, goal, prompt.text, method=td.Annealing(steps=10 if SMOKE else 200), seed=0)
steps = [step for step in whole.history.step if step % (5 if SMOKE else 25) == 0]
ax = plotting.annealing(whole, "nation", steps=steps, k=6)
plotting.save_figure(ax.figure, OUT / "annealing_figure_2_sentence.png")
