"""Exhaustive looks: every token at a position, every sentence of a corpus."""

from tl_dream.scans.corpus import corpus_search
from tl_dream.scans.screening import exact_best
from tl_dream.scans.substitutions import Substitution, numbered
from tl_dream.scans.tokens import predict_masked, similar_tokens, token_search
