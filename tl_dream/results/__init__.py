"""What comes back: plain data that prints, saves and loads. Nothing here knows a model."""

from tl_dream._files import as_json, check_writable, parse_json, read_json, same_file, write_bytes, write_json
from tl_dream.results.base import (
    VERSION,
    Cost,
    Provenance,
    SavedResult,
    around,
    check_kind,
    declared,
    made_with,
    read_value,
    readable,
    table,
)
from tl_dream.results.concepts import (
    HEAD,
    Carrying,
    ConceptReading,
    Evidence,
    ReadWord,
    Sensitivity,
    carrying_lines,
)
from tl_dream.results.corpora import CorpusHit, CorpusResult, EssentialTokens, TokenPair
from tl_dream.results.dreams import Dream, Frontier, FrontPoint, History, Run, ScoredText, get_run
from tl_dream.results.edits import WITH_CONCEPT, Change, ConceptEdit, EditRow, MinimalDream, Steering
from tl_dream.results.layers import Kept, KeptTokens, LayerReconstructions
from tl_dream.results.portraits import (
    CommonToken,
    DiverseDreams,
    Measure,
    Portrait,
    PortraitDream,
    Standing,
)
from tl_dream.results.reconstructions import Certificate, Reconstruction, Swap
from tl_dream.results.scans import (
    MaskedPredictions,
    Neighbour,
    NeighbourTable,
    Place,
    Prediction,
    TokenScore,
    TokenTable,
    WordWeights,
)
