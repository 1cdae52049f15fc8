"""tl_dream: what does a text model dream of? Feature visualization for TransformerLens models.

import tl_dream as td

bert = td.load_model("minilm")
goal = td.neuron("mlp_post", layer=4, unit=414, pos="hate")
print(td.dream(bert, goal, "i hate kickshaws ."))
"""

from tl_dream._errors import DreamError
from tl_dream.ascent import Annealing, Progress
from tl_dream.dreaming import dream
from tl_dream.inputs import GumbelSoftmaxInput
from tl_dream.models import list_hooks, load_model
from tl_dream.objectives import Objective, attention, custom, direction, logit, neuron, normalized
from tl_dream.prompts import Prompt
from tl_dream.results import Dream
from tl_dream.scoring import score

__version__ = "0.1.0"

__all__ = [
    "Annealing",
    "Dream",
    "DreamError",
    "GumbelSoftmaxInput",
    "Objective",
    "Progress",
    "Prompt",
    "attention",
    "custom",
    "direction",
    "dream",
    "list_hooks",
    "load_model",
    "logit",
    "neuron",
    "normalized",
    "score",
]
