"""Attach to a TransformerLens model, run it, and leave no trace. The one door to transformer_lens."""

from tl_dream.models.batching import (
    BATCH_TOKENS,
    PRECISIONS,
    bf16_is_faster,
    default_batch_tokens,
    few_passes,
    has_bf16,
    in_batches,
    length_groups,
)
from tl_dream.models.bert_trunk import POINTS, BertBlocks, BertTrunk, Block, can_stand_in, normed, steady_linear
from tl_dream.models.forward_pass import forward, list_hooks
from tl_dream.models.hooks import ALIASES, LAYERED, PARTS, check_index, in_float32, is_pattern, layers_run, units_of
from tl_dream.models.host import Host, Meter, attached, deadline, model_hash, opened, versions
from tl_dream.models.isolation import Shared, as_made, isolated, owned_hook, user_hooks
from tl_dream.models.loading import load_model
