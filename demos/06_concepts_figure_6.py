# %% [markdown]
# # What changes when an activation moves along a concept
#
# Figure 6 of "What does BERT dream of?" (Bäuerle and Wexler): a concept direction (he to she), a word's activation
# moved along it, and the sentence that the moved activation stands for. Here with what makes it worth believing: a
# concept that is tested, sentences that are measured exactly, and controls in the same run.

# %%
import os
from pathlib import Path

import tl_dream as td
from tl_dream import plotting

SMOKE = os.environ.get("TL_DREAM_SMOKE") == "1"  # tiny settings, for the tests
OUT = Path(os.environ.get("TL_DREAM_OUT", "."))

# %% [markdown]
# 234 pairs of sentences that differ in nothing but the pronoun come with the package. A direction is fitted on three
# quarters of them and tested on the rest; a sentence and its counterpart are never parted.

# %%
bert = td.load_model("minilm")
layers = [5] if SMOKE else "all"
quick = {"random_concepts": 50, "bootstraps": 2} if SMOKE else {}
concepts = td.fit_concepts(bert, "he_she", layers=layers, **quick)
print(concepts)
plotting.save_figure(plotting.accuracy_by_layer(concepts.evidence).figure, OUT / "concept_accuracy.png")

# %% [markdown]
# A concept is a file that no other model, hook or width will load.

# %%
concepts.save(OUT / "she.safetensors")
concepts = td.ConceptVectors.load(OUT / "she.safetensors", bert)

# %% [markdown]
# Magnitudes are in natural units: 1 is the distance between the means of the two sets. Positive ones lead to "she".

# %%
magnitudes = [1.25] if SMOKE else [-2, -1, 0, 1, 1.25, 2]
edit = td.edit_concept(bert, concepts, "he is a doctor", pos="he", magnitudes=magnitudes, controls=True)
print(edit)
plotting.save_figure(plotting.edit_table(edit).figure, OUT / "concept_figure_6.png")
plotting.save_figure(plotting.edit_table(edit, control="random").figure, OUT / "concept_figure_6_control.png")
plotting.save_figure(plotting.dose_response(edit).figure, OUT / "concept_dose_response.png")

# %% [markdown]
# Does moving "she" turn words that were not touched (her to his)? How often under the controls?

# %%
spill = td.edit_concept(bert, concepts, "she lost her keys", pos="she", magnitudes=[-1.25], controls=True)
for control in spill.controls:
    print(control or "the concept", spill.rates(control))

# %% [markdown]
# The same direction steers the running model, as any other TransformerLens hook.

# %%
layer = concepts.layers[0]
bert.add_hook(*concepts[layer].steer(1.25, pos=1))
print(td.classify(bert, concepts, "he is a doctor", pos=1))
bert.reset_hooks()

# %% [markdown]
# The article's "changed activation": one word's activation exchanged for another's. `reconstruct` reads any edited
# activation back, from the sentence it came from.

# %%
last = concepts.layers[-1]
target = td.replaced_activation(bert, "he is a doctor", "she", pos="he", layer=last)
exchanged = td.reconstruct(bert, target, "he is a doctor", layer=last, patience=0, rivals=0, progress=False)
print(exchanged.text, exchanged.loss)

# %% [markdown]
# From concept to text: the real tokens furthest along the direction, at the word after "the". For fluent text add a
# fluency term to the objective, or ask a corpus (`corpus_search`).

# %%
goal = concepts[last].objective(pos=2)
furthest = td.dream(
    bert, goal, "the nurse smiled at me .", method=td.Annealing(steps=5 if SMOKE else 100), free=[2], progress=False
)
print(furthest)
