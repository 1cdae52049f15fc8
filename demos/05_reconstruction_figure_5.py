# %% [markdown]
# # Which words does a layer keep?
#
# Figure 5 of "What does BERT dream of?" (Bäuerle and Wexler): the sentence whose activation is that of a layer. The
# article read back 77% of its tokens, 29% at the last layer. But the sentence itself has loss zero, so a wrong token
# says nothing of the layer until the search is known to be good. Here every token comes back, with a certificate.

# %%
import os
from pathlib import Path

import tl_dream as td
from tl_dream import plotting

SMOKE = os.environ.get("TL_DREAM_SMOKE") == "1"  # tiny settings, for the tests
OUT = Path(os.environ.get("TL_DREAM_OUT", "."))

# %%
bert = td.load_model("minilm")
sentence = (
    "job duties for professional painters include removing old paint , priming surfaces , choosing materials , "
    "selecting and mixing colors and cleaning up job sites"
)
if SMOKE:
    sentence = "i hate kickshaws ."

# %%
layers = td.reconstruct_layers(bert, sentence, layers=[0] if SMOKE else "all", progress=False)
print(layers)
plotting.save_figure(plotting.read_back(layers).figure, OUT / "reconstruction_figure_5.png")

# %% [markdown]
# A certificate says that the tokens' own activation is the target to numerical precision, and how far the nearest other
# tokens are from it. The cost of another token is how much the mean squared error would rise.

# %%
last = layers.layers[-1]
print(last.certificate)
print(last.to_frame().sort_values("other_cost").head(5))

# %% [markdown]
# The article's own method, for comparison: as many steps as you have time for (it took 10,000).

# %%
article = td.reconstruct(bert, sentence, layer=0, method="article", steps=3 if SMOKE else 100, progress=False)
print(f"{article.settings['steps']} steps: {article.right} of {article.total} right in {article.cost.seconds:.0f} s")

# %% [markdown]
# What does a layer keep, then? Damage the activation and see which text fits best. Were the search to fail, the truth
# would fit better than what it found, and that is counted apart (the hollow marks).

# %%
damages = ["noise 0.2"] if SMOKE else ["noise 0.05", "noise 0.2", "noise 0.5", "noise 1", "bf16", "int8", "top 16"]
texts = ["i hate kickshaws ."] if SMOKE else ["i hate kickshaws .", "The hearing took place in Blythe 's absence ."]
kept = td.kept_tokens(bert, texts, layers=[0] if SMOKE else [0, 2, 5], damages=damages, progress=False)
print(kept)
print(kept.alternatives_frame().sort_values("cost").head(5))  # what the damaged layers hardly tell from what they keep
plotting.save_figure(plotting.kept_curves(kept).figure, OUT / "reconstruction_kept.png")

# %% [markdown]
# An activation that you edited is no text's. `start` looks around a sentence for the text that comes closest, and `gap`
# is how far it stays away.

# %%
edited = td.replaced_activation(bert, "the red dog hates me .", "cat", pos=3, layer=0)
nearest = td.reconstruct(bert, edited, "the red dog hates me .", layer=0, patience=0, progress=False)
print(nearest)
