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
    from tl_dream.concepts import (
        ConceptVector,
        ConceptVectors,
        classify,
        fit_concept,
        fit_concepts,
        load_templates,
        read_examples,
        read_pairs,
        sensitivity,
    )
    from tl_dream.dreaming import (
        ARTICLE,
        EPO,
        GCG,
        PEZ,
        Annealing,
        Auto,
        GumbelSoftmaxInput,
        dream,
        dream_many,
        epo,
        gcg,
    )
    from tl_dream.editing import edit_concept, replaced_activation
    from tl_dream.interchange import read_text_dream, write_text_dream
    from tl_dream.models import list_hooks, load_model
    from tl_dream.objectives import (
        BigramModel,
        Objective,
        attention,
        count_bigrams,
        custom,
        difference,
        direction,
        fluency,
        latent,
        logit,
        match,
        neuron,
        normalized,
        score,
    )
    from tl_dream.portraits import atlas, diverse_dreams, essential, minimal_dream, placebo, portrait
    from tl_dream.reconstruction import certify, damaged, kept_tokens, reconstruct, reconstruct_layers, reconstruct_many
    from tl_dream.results import (
        Certificate,
        ConceptEdit,
        CorpusResult,
        DiverseDreams,
        Dream,
        EssentialTokens,
        Frontier,
        KeptTokens,
        LayerReconstructions,
        MinimalDream,
        Portrait,
        Reconstruction,
    )
    from tl_dream.scans import corpus_search, predict_masked, similar_tokens, token_search
    from tl_dream.search import Progress
    from tl_dream.sweeps import (
        Portraits,
        Reconstructions,
        SweepStatus,
        Unit,
        read_sweep,
        sweep,
        sweep_result,
        sweep_status,
        units,
    )
    from tl_dream.text import Prompt

__version__ = "0.1.0"

_WINGS = {
    "_errors": ("DreamError",),
    "results": (
        "Certificate",
        "ConceptEdit",
        "CorpusResult",
        "DiverseDreams",
        "Dream",
        "EssentialTokens",
        "Frontier",
        "KeptTokens",
        "LayerReconstructions",
        "MinimalDream",
        "Portrait",
        "Reconstruction",
    ),
    "text": ("Prompt",),
    "models": ("list_hooks", "load_model"),
    "objectives": (
        "BigramModel",
        "Objective",
        "attention",
        "count_bigrams",
        "custom",
        "difference",
        "direction",
        "fluency",
        "latent",
        "logit",
        "match",
        "neuron",
        "normalized",
        "score",
    ),
    "scans": ("corpus_search", "predict_masked", "similar_tokens", "token_search"),
    "search": ("Progress",),
    "dreaming": (
        "ARTICLE",
        "EPO",
        "GCG",
        "PEZ",
        "Annealing",
        "Auto",
        "GumbelSoftmaxInput",
        "dream",
        "dream_many",
        "epo",
        "gcg",
    ),
    "reconstruction": (
        "certify",
        "damaged",
        "kept_tokens",
        "reconstruct",
        "reconstruct_layers",
        "reconstruct_many",
    ),
    "concepts": (
        "ConceptVector",
        "ConceptVectors",
        "classify",
        "fit_concept",
        "fit_concepts",
        "load_templates",
        "read_examples",
        "read_pairs",
        "sensitivity",
    ),
    "editing": ("edit_concept", "replaced_activation"),
    "portraits": ("atlas", "diverse_dreams", "essential", "minimal_dream", "placebo", "portrait"),
    "sweeps": (
        "Portraits",
        "Reconstructions",
        "SweepStatus",
        "Unit",
        "read_sweep",
        "sweep",
        "sweep_result",
        "sweep_status",
        "units",
    ),
    "interchange": ("read_text_dream", "write_text_dream"),
}
_HOMES = {name: wing for wing, names in _WINGS.items() for name in names}

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
