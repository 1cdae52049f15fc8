"""What is climbed: named activations to one score a row."""

from tl_dream.objectives.bigrams import BigramModel, count_bigrams
from tl_dream.objectives.derived import custom, difference, normalized
from tl_dream.objectives.factories import attention, direction, logit, match, neuron
from tl_dream.objectives.judges import fluency
from tl_dream.objectives.latents import latent
from tl_dream.objectives.objective import TOKENS, Activations, BatchContext, Objective, Read
from tl_dream.objectives.pickling import sketch
from tl_dream.objectives.preactivations import reduced
from tl_dream.objectives.scoring import (
    Part,
    check,
    climbed,
    columns_read,
    depth,
    evaluate,
    evaluate_parts,
    listed_scores,
    positions_known,
    read_activations,
    score,
    trunk_of,
    unit_number,
)
