"""tl_dream: what does a text model dream of? Feature visualization for TransformerLens models.

import tl_dream as td

bert = td.load_model("minilm")
goal = td.neuron("mlp_post", layer=4, unit=414, pos="hate")
print(td.dream(bert, goal, "i hate kickshaws ."))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tl_dream._errors import DreamError
    from tl_dream.ascent import Annealing, Progress
    from tl_dream.bigrams import BigramModel, count_bigrams
    from tl_dream.concept_edit_results import ConceptEdit
    from tl_dream.concept_edits import edit_concept
    from tl_dream.concept_examples import load_templates, read_examples, read_pairs
    from tl_dream.concept_fitting import fit_concept, fit_concepts
    from tl_dream.concept_vectors import ConceptVector, ConceptVectors
    from tl_dream.concepts import classify, replaced_activation, sensitivity
    from tl_dream.corpus_results import CorpusResult
    from tl_dream.corpus_scan import corpus_search
    from tl_dream.damages import damaged
    from tl_dream.dreaming import dream
    from tl_dream.frontier import Frontier
    from tl_dream.inputs import GumbelSoftmaxInput
    from tl_dream.judges import fluency
    from tl_dream.layer_reconstruction import kept_tokens, reconstruct_layers
    from tl_dream.layer_results import KeptTokens, LayerReconstructions
    from tl_dream.models import list_hooks, load_model
    from tl_dream.objectives import Objective, attention, custom, direction, logit, match, neuron, normalized
    from tl_dream.prompts import Prompt
    from tl_dream.reconstruction import certify, reconstruct
    from tl_dream.reconstruction_results import Certificate, Reconstruction
    from tl_dream.results import Dream
    from tl_dream.scans import predict_masked, similar_tokens, token_search
    from tl_dream.scoring import score
    from tl_dream.search import epo, gcg

__version__ = "0.1.0"

_FILES = {
    "_errors": ("DreamError",),
    "ascent": ("Annealing", "Progress"),
    "bigrams": ("BigramModel", "count_bigrams"),
    "concept_edit_results": ("ConceptEdit",),
    "concept_edits": ("edit_concept",),
    "concept_examples": ("load_templates", "read_examples", "read_pairs"),
    "concept_fitting": ("fit_concept", "fit_concepts"),
    "concept_vectors": ("ConceptVector", "ConceptVectors"),
    "concepts": ("classify", "replaced_activation", "sensitivity"),
    "corpus_results": ("CorpusResult",),
    "corpus_scan": ("corpus_search",),
    "damages": ("damaged",),
    "dreaming": ("dream",),
    "frontier": ("Frontier",),
    "inputs": ("GumbelSoftmaxInput",),
    "judges": ("fluency",),
    "layer_reconstruction": ("kept_tokens", "reconstruct_layers"),
    "layer_results": ("KeptTokens", "LayerReconstructions"),
    "models": ("list_hooks", "load_model"),
    "objectives": ("Objective", "attention", "custom", "direction", "logit", "match", "neuron", "normalized"),
    "prompts": ("Prompt",),
    "reconstruction": ("certify", "reconstruct"),
    "reconstruction_results": ("Certificate", "Reconstruction"),
    "results": ("Dream",),
    "scans": ("predict_masked", "similar_tokens", "token_search"),
    "scoring": ("score",),
    "search": ("epo", "gcg"),
}
_HOMES = {name: file for file, names in _FILES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Loads torch only when a name is first used, so that `tl-dream --help` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"tl_dream.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
