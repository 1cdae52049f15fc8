"""What all searches over tokens share: the rows, the best seen, budgets, slopes, swaps."""

from tl_dream.search.batch import (
    Ask,
    Batch,
    Ids,
    Look,
    Search,
    Soft,
    Start,
    Together,
    allowed_tokens,
    read_prompts,
    row_generators,
)
from tl_dream.search.best_seen import BestSeen
from tl_dream.search.budgets import BUDGET, Budget, Callback, Progress, StepCosts, Tick, budget_bar, wants_to_stop
from tl_dream.search.engine import BrokenGradient, run, run_all
from tl_dream.search.exhaustive import best_words, every_text
from tl_dream.search.other_starts import OtherStarts
from tl_dream.search.outcome import Outcome, finish, side_by_side
from tl_dream.search.proposals import joined, token_slopes
from tl_dream.search.swap_search import SwapSearch, Walker
