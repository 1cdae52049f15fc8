# %% [markdown]
# # Near tokens do not fire alike
#
# Figure 4 of "What does BERT dream of?" (Bäuerle and Wexler): the tokens nearest to a sentence's own in embedding
# space, and what each of them scores in its place. Gradient ascent walks through that space; if near tokens score so
# differently, the way there tells little about the goal.

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
sentence = "The Washington Post reported growing resentment in the nation towards the United States ."
few = "nation nations country state people war peace king queen city".split() if SMOKE else "no_special no_unused ascii"
best = 3 if SMOKE else 30

# %% [markdown]
# One token search tells what it takes to be among the best; both metrics are compared with it.

# %%
search = td.token_search(bert, goal, sentence, pos="nation", allowed=few, top=best)
for metric in ("euclidean", "cosine"):
    table = td.similar_tokens(
        bert, goal, sentence, pos="nation", k=best, metric=metric, search=search, best=best, allowed=few
    )
    print(table, end="\n\n")
    plotting.save_figure(plotting.neighbours(table).figure, OUT / f"neighbours_figure_4_{metric}.png")

# %% [markdown]
# Where do high activations come from, then? From whole sentences: the best of a corpus, every token shaded by what the
# unit makes of it. Here a few lines; give a text file, or a data set with `column=`, for a real one. The texts of the
# result are starts for dreams, as the article used them.

# %%
lines = [
    "The nation was at war , and the national assembly met every day .",
    "He wrote a paper on national defence .",
    "The red colour associated with lobsters only appears after cooking .",
    "Smith commented that Grant was born to be a Who villain .",
    "In the early years of the 20th century there was no such office .",
    "",
]
anywhere = td.neuron("block_out", layer=2, unit=291)
result = td.corpus_search(bert, anywhere, lines, top=3)
print(result)
plotting.save_figure(plotting.corpus_sentences(result).figure, OUT / "corpus_sentences.png")

# %%
dreamt = td.dream(
    bert, anywhere, result.texts(2), method=td.Annealing(steps=5 if SMOKE else 100), seed=0, progress=False
)
print(dreamt)
