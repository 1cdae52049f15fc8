"""Results to Axes. The one door to matplotlib."""

from tl_dream.plotting.canvas import check_figure_path, save_figure
from tl_dream.plotting.concepts import dose_response, edit_table
from tl_dream.plotting.curves import accuracy_by_layer, cost_curves, pareto, search_costs
from tl_dream.plotting.histories import annealing, dream_history
from tl_dream.plotting.portraits import corpus_sentences, portrait
from tl_dream.plotting.reconstructions import kept_curves, read_back
from tl_dream.plotting.scans import neighbours, prediction_bars, token_bars

OF_KIND = {
    "concept_edit": "edit_table",
    "dream": "dream_history",
    "layer_reconstructions": "read_back",
    "neighbour_table": "neighbours",
    "reconstruction": "read_back",
    "token_table": "token_bars",
    "word_weights": "annealing",
}
"""The plot that draws a result, by the result's kind: the article's six figures."""
