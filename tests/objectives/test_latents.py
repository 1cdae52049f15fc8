"""The room objectives.latents: sparse autoencoders laid out as SAELens does, without it."""

import warnings
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import says
from tests.support.objectives import TEXTS, close, raw

WIDTH, LATENTS = 24, 50


@dataclass
class Config:
    """The parts of SAELens's that matter here; since its version 6 `metadata` has the hook's name."""

    metadata: dict[str, Any] = field(default_factory=lambda: {"hook_name": "blocks.1.mlp.hook_post"})
    apply_b_dec_to_input: bool = True
    normalize_activations: str = "none"


class SAE:
    """W_enc [d_in, d_sae], b_enc, b_dec, and with `jump` a threshold a latent."""

    def __init__(self, width: int = 40, jump: bool = False, **config: Any) -> None:
        draw = torch.Generator().manual_seed(3)
        self.W_enc = torch.randn(width, LATENTS, generator=draw)
        self.b_enc, self.b_dec = torch.randn(LATENTS, generator=draw), torch.randn(width, generator=draw)
        self.cfg = Config(**config)
        if jump:
            self.threshold = torch.rand(LATENTS, generator=draw) + 0.5

    def before(self, x: Tensor) -> Tensor:
        moved = x - self.b_dec.to(x) * self.cfg.apply_b_dec_to_input
        return moved @ self.W_enc.to(x) + self.b_enc.to(x)

    def encode(self, x: Tensor) -> Tensor:
        found = self.before(x)
        level = getattr(self, "threshold", torch.zeros(LATENTS)).to(x)
        return torch.where(found > level, found.relu(), torch.zeros_like(found))


@pytest.mark.parametrize("jump", [False, True])
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("reduce", ["max", "mean", "min"])
def test_it_is_what_the_encoder_says(tiny_encoder64: torch.nn.Module, jump: bool, subtract: bool, reduce: str) -> None:
    sae = SAE(jump=jump, apply_b_dec_to_input=subtract)
    seen = 0.0
    for index in (0, 7, 49):
        goal = td.latent(sae, index, hook="mlp_post", layer=1, reduce=reduce)
        each = [sae.encode(raw(tiny_encoder64, text, "mlp_post", 1))[1:-1, index] for text in TEXTS]
        expected = [getattr(values, reduce)() for values in each]
        close(td.score(tiny_encoder64, goal, TEXTS), expected)
        seen += float(sum(expected))
    assert seen > 0  # some are on


def test_tensors_and_functions_are_encoders_too(tiny_encoder64: torch.nn.Module) -> None:
    sae = SAE()
    where: dict[str, Any] = {"hook": "mlp_post", "layer": 1, "pos": 2}
    whole = td.score(tiny_encoder64, td.latent(sae, 5, **where), TEXTS)
    close(td.score(tiny_encoder64, td.latent((sae.W_enc, sae.b_enc, sae.b_dec), 5, **where), TEXTS), whole)
    close(td.score(tiny_encoder64, td.latent(sae.before, 5, **where), TEXTS), whole)
    flat = td.score(tiny_encoder64, td.latent((sae.W_enc.numpy(), sae.b_enc.numpy()), 5, **where), TEXTS)
    sae.cfg.apply_b_dec_to_input = False
    close(flat, td.score(tiny_encoder64, td.latent(sae, 5, **where), TEXTS))


def test_the_sae_names_its_hook() -> None:
    assert str(td.latent(SAE(), 5, pos="dog")) == "latent(SAE, 5, hook='blocks.1.mlp.hook_post', pos='dog')"
    with says("names no hook"):
        td.latent((torch.eye(3), torch.zeros(3)), 0)


def test_a_silent_latent_has_a_slope(tiny_encoder: torch.nn.Module) -> None:
    """One that is off in the sentence, by so much that few texts turn it on."""
    sae = SAE(jump=True)
    before = sae.before(raw(tiny_encoder, "the red dog", "mlp_post", 1))[2]
    index = int((before - sae.threshold).argmin())
    sae.b_enc[index] += float(sae.threshold[index] - before[index]) - 0.05  # just off
    goal = td.latent(sae, index, hook="mlp_post", layer=1, pos=2)
    result = td.dream(tiny_encoder, goal, "the red dog", budget=1500)
    assert result.start.score == 0 and result.best.score > float(sae.threshold[index]) and result.fired
    sae.b_enc[index] -= 1e3
    never = td.dream(tiny_encoder, td.latent(sae, index, hook="mlp_post", layer=1, pos=2), "the red dog", budget=600)
    assert never.best.score == 0 and never.fired is False and "never fired" in str(never)


@pytest.mark.parametrize(
    ("sae", "index", "told"),
    [
        (SAE(), 50, ["latent 50 does not exist", "0 to 49"]),
        (SAE(normalize_activations="layer_norm"), 0, ["normalizes its input ('layer_norm')"]),
        ((torch.eye(3),), 0, ["not 1 tensors"]),
        ((torch.eye(3), torch.zeros(2)), 0, ["don't fit"]),
        ((torch.eye(3), torch.zeros(3), torch.zeros(2)), 0, ["b_dec (2,) is not of 3 units"]),
        ("sae", 0, ["str is no encoder"]),
    ],
)
def test_what_is_no_encoder_is_told(sae: Any, index: int, told: list[str]) -> None:
    with says(*told):
        td.latent(sae, index, hook="mlp_post", layer=1)


def test_other_widths_are_told(tiny_encoder: torch.nn.Module) -> None:
    with says("the encoder reads 40 units, and the hook has 24"):
        td.score(tiny_encoder, td.latent(SAE(), 0, hook="block_out", layer=1), "the red dog")
    with says("[batch, pos, d_sae]"):
        td.score(tiny_encoder, td.latent(lambda x: x.sum(), 0, hook="block_out", layer=1), "the red dog")
    with says("latent 30 does not exist"):
        td.score(tiny_encoder, td.latent(lambda x: x, 30, hook="block_out", layer=1), "the red dog")


@pytest.mark.parametrize("kind", ["Standard", "JumpReLU"])
def test_saes_of_saelens_itself(tiny_encoder64: torch.nn.Module, kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = pytest.importorskip("sae_lens", reason='needs SAELens: pip install "tl-dream[sae]"')
    sae = getattr(made, f"{kind}SAE")(getattr(made, f"{kind}SAEConfig")(d_in=40, d_sae=LATENTS, device="cpu"))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    for index in (0, 7):
        goal = td.latent(sae, index, hook="mlp_post", layer=1)
        each = [sae.encode(raw(tiny_encoder64, text, "mlp_post", 1).float())[1:-1, index].max() for text in TEXTS]
        close(td.score(tiny_encoder64, goal, TEXTS), each, 1e-5)
    assert max(each) > 0
