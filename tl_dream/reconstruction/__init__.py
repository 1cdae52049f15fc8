"""A sentence read back from an activation, and its certificate."""

from tl_dream.reconstruction.certificates import certify
from tl_dream.reconstruction.layers import damaged, kept_tokens, read_damage, read_layers, reconstruct_layers
from tl_dream.reconstruction.many import ReadBack, reconstruct_many
from tl_dream.reconstruction.reconstruction import reconstruct
