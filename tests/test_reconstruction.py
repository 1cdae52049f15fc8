"""Reconstruction: the text comes back, certificates are true, and every kind of target and mistake has its answer."""

import pytest
import torch
from conftest import VOCAB, says
from test_objectives import raw

import tl_dream as td
from tl_dream.hosts import attached
from tl_dream.models import forward

TEXT = "the red dog was old ."  # eight tokens with [CLS] and [SEP]
READ = "the red dog was old."  # as it is decoded
QUICK = {"progress": False}


@pytest.fixture(scope="module")
def model(tiny_folder):
    """One backend will do for most."""
    return td.load_model(str(tiny_folder))


def tensor_of(model, text=TEXT, layer=0, hook="block_out"):
    return raw(model, text, hook, layer)


def error_of(model, ids, target, layer=0, hook="block_out"):
    """The certificate's error, from a plain forward pass."""
    with attached(model) as host, torch.no_grad():
        name = host.resolve(hook, layer)
        found = forward(host, torch.tensor([ids]), [name])[name][0]
    return float(((found - target).square().flatten(1).mean(1).sqrt() / target.square().mean().sqrt()).max())


# ---------------------------------------------------------------- the text comes back


@pytest.mark.parametrize("layer", [0, 1])
def test_a_text_comes_back_and_is_certified(tiny_encoder, layer):
    result = td.reconstruct(tiny_encoder, TEXT, layer=layer, **QUICK)
    assert result.text == READ and result.exact and result.certified and result.stopped == "matched"
    assert (result.right, result.total) == (6, 6) and result.wrong == () and result.missed is False
    assert result.certificate.error == error_of(
        tiny_encoder, result.best.ids, tensor_of(tiny_encoder, layer=layer), layer
    )
    assert result.layer == layer and result.cost.forwards > 0 and result.seed == 0


def test_a_saved_activation_is_enough(model):
    """No truth is given; a batch axis of one does not matter."""
    target = tensor_of(model)
    for given in (target, target[None], target.double()):
        result = td.reconstruct(model, given, layer=0, **QUICK)
        assert result.text == READ and result.certified
        assert result.truth is None and result.right is None and result.exact is None and result.missed is None


def test_the_activation_that_run_with_cache_gives(model):
    _, cache = model.run_with_cache(TEXT)
    with attached(model) as host:
        name = host.resolve("block_out", 0)
    result = td.reconstruct(model, cache[name], hook=name, **QUICK)
    assert result.text == READ and result.certified and result.hook == name


@pytest.mark.parametrize("hook", ["attn_out", "z", "q", "mlp_post", "resid_post"])
def test_other_hooks(model, hook):
    target = tensor_of(model, layer=0, hook=hook)
    for given in (target, target.flatten(1)) if hook == "z" else (target,):
        result = td.reconstruct(model, given, hook=hook, layer=0, **QUICK)
        assert result.text == READ and result.certified, str(result)


def test_hooks_before_the_layers(model):
    for hook in ("embed", "full_embed"):
        result = td.reconstruct(model, TEXT, hook=hook, **QUICK)
        assert result.certified and result.exact and result.layer is None


def test_causal_models(tiny_causal):
    result = td.reconstruct(tiny_causal, " the red dog sees a moon", layer=0, **QUICK)
    assert result.exact and result.certified, str(result)


def test_parts_of_a_target(model):
    """Some positions, one position, some units: what is matched is matched, and the rest is said."""
    target = tensor_of(model, layer=0)
    words = td.reconstruct(model, target[1:-1], layer=0, positions=list(range(1, 7)), length=8, **QUICK)
    assert words.text == READ and words.certified and not words.certificate.whole
    assert words.positions == tuple(range(1, 7)) and "a part of the activation" in str(words.certificate)
    whole = td.reconstruct(model, target, layer=0, positions=list(range(1, 7)), **QUICK)
    assert whole.text == READ and whole.certificate == words.certificate
    some = td.reconstruct(model, target[:, 4:16], layer=0, units=range(4, 16), **QUICK)
    assert some.text == READ and some.units == tuple(range(4, 16))
    named = td.reconstruct(model, TEXT, layer=0, positions="all", **QUICK)
    assert named.exact and named.positions == tuple(range(1, 7))
    assert td.reconstruct(model, target, layer=0, units=range(24), **QUICK).units is None


def test_a_match_that_could_be_an_accident_is_not_certified(model):
    """One number a position is less than a token: the target is met, and nothing is promised."""
    target = tensor_of(model, layer=0)[:, 3]
    with attached(model) as host:
        result = td.certify(host, TEXT, target, layer=0, units=3)
    assert result.matched and not result.tells and not result.certified and "too few numbers" in str(result)
    one = td.certify(model, TEXT, tensor_of(model)[2], layer=0, positions=2)
    assert one.matched and not one.whole


def test_unknown_length(model):
    target = tensor_of(model, layer=0)[1:5]
    result = td.reconstruct(
        model, target, layer=0, positions=[1, 2, 3, 4], length=[6, 8], allowed=TEXT.split(), **QUICK
    )
    assert [length for length, _ in result.lengths] == [6, 8] and len(result.tokens) == 8
    assert result.lengths[0][1] > 1e-3 and result.loss < 1e-8
    assert result.tokens[1:5] == ("the", "red", "dog", "was") or not result.certified


def test_what_is_free(model):
    """Of a Prompt only the free positions are searched; the others are given."""
    result = td.reconstruct(model, td.Prompt(TEXT, free=["red", "old"]), layer=0, **QUICK)
    assert result.exact and result.total == 2 and result.free == (2, 5)


def test_special_tokens_in_the_sentence(model):
    text = "the [MASK] dog was [UNK] ."
    result = td.reconstruct(model, text, layer=0, **QUICK)
    assert result.exact and result.certified


# ---------------------------------------------------------------- certificates


def twins(model, gap, word="dog", twin="cat"):
    """Give a word an embedding that is another's plus `gap`."""
    W = model.W_E
    with torch.no_grad():
        W[VOCAB.index(twin)] = W[VOCAB.index(word)] + gap


@pytest.mark.parametrize(("size", "constant"), [(0.0, False), (1e-7, False), (3e-5, False), (0.0, True)])
def test_twins_are_never_certified(fresh_encoder, size, constant):
    """LayerNorm does not see a constant, however large; nor does arithmetic see the rest."""
    model = fresh_encoder()
    draw = torch.Generator().manual_seed(1)
    twins(model, 0.7 if constant else size * torch.randn(24, generator=draw))
    for text in (TEXT, TEXT.replace("dog", "cat")):
        result = td.reconstruct(model, text, layer=0, **QUICK)
        assert result.certificate.matched and not result.certified and result.right >= 5
        assert "can't be told apart" in str(result) and result.certificate.margin < 10


def test_near_twins_that_can_be_told_apart(fresh_encoder):
    model = fresh_encoder()
    twins(model, 1e-2 * torch.randn(24, generator=torch.Generator().manual_seed(1)))
    for text, other in ((TEXT, "cat"), (TEXT.replace("dog", "cat"), "dog")):
        result = td.reconstruct(model, text, layer=0, **QUICK)
        assert result.exact and result.certified
        rival = result.certificate.rival
        assert rival.other == other and rival.pos == 3
        swapped = list(result.best.ids)
        swapped[3] = VOCAB.index(other)
        assert rival.error == pytest.approx(error_of(model, swapped, tensor_of(model, text)), rel=1e-3)


def test_the_rival_is_close_to_the_closest_of_all_tokens(model):
    """Against every single swap of the vocabulary; of random embeddings none is near another."""
    target = tensor_of(model, layer=0)
    result = td.reconstruct(model, target, layer=0, rivals=8, **QUICK)
    allowed = [i for i, token in enumerate(VOCAB) if "unused" not in token]
    with attached(model) as host, torch.no_grad():
        name, best = host.resolve("block_out", 0), torch.inf
        for pos in result.free:
            rows = torch.tensor([result.best.ids]).repeat(len(allowed), 1)
            rows[:, pos] = torch.tensor(allowed)
            gaps = forward(host, rows, [name])[name] - target
            errors = gaps.square().mean(2).sqrt().amax(1) / target.square().mean().sqrt()
            best = min(best, float(errors[rows[:, pos] != result.best.ids[pos]].min()))
    assert best * 0.999 <= result.certificate.rival.error < 1.2 * best


def test_certify_a_candidate(model):
    target = tensor_of(model)
    good = td.certify(model, TEXT, target, layer=0)
    assert good.certified and str(good).startswith("certified")
    bad = td.certify(model, TEXT.replace("dog", "cat"), target, layer=0)
    assert not bad.matched and not bad.certified and str(bad).startswith("not certified")
    none = td.certify(model, TEXT, target, layer=0, rivals=0)
    assert none.matched and not none.certified and "no other token was tried" in str(none)
    with says("the candidate has 4 tokens, the target 8 positions"):
        td.certify(model, "a dog", target, layer=0)


def test_one_position_that_is_off_is_enough(model):
    """Over all positions the difference would be within the tolerance."""
    target = tensor_of(model).clone()
    target[3] += 1e-4 * target.square().mean().sqrt()
    found = td.certify(model, TEXT, target, layer=0)
    assert found.tolerance < found.error == pytest.approx(1e-4, rel=0.05) and not found.matched
    assert found.error / 8 < found.tolerance


def test_a_target_that_was_edited_is_not_certified(model):
    target = tensor_of(model).clone()
    target[3] += 0.01 * target.square().mean().sqrt()
    result = td.reconstruct(model, target, TEXT, layer=0, patience=0, **QUICK)
    assert result.text == READ and not result.certificate.matched and not result.certified
    assert "not certified" in str(result) and "what remains is largest at 3 dog" in str(result)


def test_half_precision(fresh_encoder):
    """A target rounded to bf16 is matched to its own precision, which tells less."""
    model = fresh_encoder()
    target = tensor_of(model, layer=0)
    rounded = td.reconstruct(model, target.bfloat16(), layer=0, **QUICK)
    assert rounded.text == READ and rounded.certificate.tolerance > 1e-2
    narrow = fresh_encoder(dtype=torch.bfloat16)
    result = td.reconstruct(narrow, TEXT, layer=0, **QUICK)
    assert result.right >= 5 and (result.exact or not result.certified)


def test_noise_without_words_is_not_certified(model):
    target = torch.randn(6, 24, generator=torch.Generator().manual_seed(0))
    result = td.reconstruct(model, target, layer=0, patience=0, budget=600, **QUICK)
    assert not result.certificate.matched and not result.certified and result.gap > 0.1
    assert result.stopped in ("settled", "budget")


@pytest.mark.slow
def test_the_closest_words_of_minilm(minilm):
    """Pairs of words with the closest embeddings: the wrong one is never certified, the right one always."""
    text = "we saw the {} there ."
    W = torch.nn.functional.normalize(minilm.W_E.detach()[1996:7000], dim=1)
    likeness = (W @ W.T).fill_diagonal_(-1)
    pairs = [(1996 + int(i) // len(W), 1996 + int(i) % len(W)) for i in likeness.flatten().topk(60).indices]
    names = minilm.tokenizer.convert_ids_to_tokens
    tried = 0
    for one, other in dict.fromkeys(tuple(sorted(pair)) for pair in pairs):
        right, wrong = (text.format(names(token)) for token in (one, other))
        if len({len(minilm.tokenizer(t)["input_ids"]) for t in (right, wrong)} | {8}) > 1:
            continue
        for layer in (0, 5):
            target = raw(minilm, right, "block_out", layer)
            assert td.certify(minilm, right, target, layer=layer, rivals=2).certified
            assert not td.certify(minilm, wrong, target, layer=layer, rivals=2).matched
        tried += 1
        if tried == 4:
            break
    assert tried == 4


@pytest.mark.slow
def test_minilm_gives_its_sentences_back(minilm):
    text = "The hearing took place in Blythe 's absence ."
    for layer in (1, 5):
        result = td.reconstruct(minilm, text, layer=layer, **QUICK)
        assert result.exact and result.certified, str(result)
    noisy = td.damaged(raw(minilm, text, "block_out", 3), "noise 0.05")
    result = td.reconstruct(minilm, noisy, layer=3, patience=0, truth=text, **QUICK)
    assert result.exact and not result.certified and result.gap == pytest.approx(0.05, rel=0.1)


# ---------------------------------------------------------------- from a start


def test_from_a_start(model):
    """An activation moved from one sentence's to another's word, which no text reaches."""
    here, there = tensor_of(model), tensor_of(model, TEXT.replace("dog", "cat"))
    target = here.clone()
    target[3] = there[3]
    result = td.reconstruct(model, target, TEXT, layer=0, patience=0, truth=TEXT, **QUICK)
    assert result.start.text == READ
    assert -result.start.score == pytest.approx(float((target - here).square().mean()), rel=1e-4)
    assert result.loss <= -result.start.score
    assert -result.loss >= max(result.start.score, -float((target - there).square().mean()) - 1e-7)
    assert result.changed == tuple(i for i in result.free if result.start.ids[i] != result.best.ids[i])
    assert result.scale == pytest.approx(float(target.square().mean().sqrt()), rel=1e-5)
    assert result.gap == pytest.approx(result.loss**0.5 / result.scale)
    assert len(result.errors) == 8 and result.loss == pytest.approx(
        sum((e * result.scale) ** 2 for e in result.errors) / 8, rel=1e-4
    )


def test_a_target_that_is_the_starts_own_is_solved_at_once(model):
    result = td.reconstruct(model, tensor_of(model, layer=2), TEXT, layer=2, **QUICK)
    assert result.certified and result.changed == () and result.cost.forwards < 150


def test_only_the_free_words_of_a_start_move(model):
    target = tensor_of(model, "a red cat was old .")
    result = td.reconstruct(model, target, td.Prompt(TEXT, free="dog"), layer=0, patience=0, **QUICK)
    assert result.changed == (3,) and result.tokens[1] == "the" and not result.certified


def test_more_starts_are_never_worse_and_a_seed_is_a_seed(model):
    target = tensor_of(model).clone()
    target[3] += torch.randn(24, generator=torch.Generator().manual_seed(3))
    first, again, more = (
        td.reconstruct(model, target, TEXT, layer=0, patience=0, starts=n, seed=4, **QUICK) for n in (1, 1, 3)
    )
    assert first.to_json() | {"seconds": 0} == again.to_json() | {"seconds": 0}
    assert more.loss <= first.loss * 1.0001


# ---------------------------------------------------------------- the article's method


def test_the_articles_method(model):
    result = td.reconstruct(model, "a red dog", layer=0, method="article", steps=150, **QUICK)
    assert result.method == "article" and result.settings["steps"] == 150 and result.history is not None
    assert result.history.temperature[0] == 2.0 and result.history.step[-1] == 150
    assert result.right is not None and result.cost.forwards >= 300
    short = td.reconstruct(model, "a red dog", layer=0, method="article", steps=1, **QUICK)
    assert not short.exact and not short.certified and short.stopped == "steps"


# ---------------------------------------------------------------- effort


def test_the_budget_holds(model):
    small = td.reconstruct(model, TEXT, layer=2, budget=300, rivals=0, **QUICK)
    assert small.stopped == "budget" and small.cost.forwards < 300 + 300
    least = td.reconstruct(model, TEXT, layer=2, budget=1, rivals=0, **QUICK)
    assert least.stopped == "budget" and len(least.tokens) == 8


def test_patience(model):
    target = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))
    costs = []
    for patience in (0, 1):
        result = td.reconstruct(model, target, layer=0, patience=patience, rivals=0, budget=100_000, **QUICK)
        assert result.stopped == "settled"
        costs.append(result.cost.forwards)
    assert costs[1] > 1.5 * costs[0]


def test_allowed_tokens(model):
    result = td.reconstruct(model, tensor_of(model), layer=0, allowed=["cat", "the"], patience=0, **QUICK)
    assert set(result.tokens[1:-1]) <= {"cat", "the"} and not result.certified


# ---------------------------------------------------------------- mistakes


def test_targets_that_can_not_be(model):
    target = tensor_of(model)

    def wrong(given, *parts, **options):
        with says(*parts):
            td.reconstruct(model, given, **{"layer": 1, **QUICK, **options})

    wrong(target[:, :23], "the target's shape (8, 23) does not fit", "[pos, 24]")
    wrong(target[None].repeat(2, 1, 1), "shape (2, 8, 24)", "batch axis of 1")
    wrong(target[0], "shape (24,)", "with positions= a number")
    wrong(target[:, :3], "or [pos, 2] for the units asked for", units=[1, 2])
    wrong(torch.zeros(0, 24), "the target is empty")
    wrong(torch.zeros(8, 24), "the target is zero")
    wrong(target.int(), "dtype is torch.int32", "target.float()")
    wrong(target.to("meta"), "the target is on meta, the model on cpu")
    holed = target.clone()
    holed[2, 3] = torch.nan
    holed[2, 4] = torch.inf
    wrong(holed, "2 NaN or infinite numbers among its 192")
    wrong(
        target, "hook_pattern' (shape (1, 4, 4, 4) for 4 tokens)", "no row of units for every position", hook="pattern"
    )
    wrong(target, "does not depend on the tokens", hook="pos_embed", layer=None)
    wrong(target, "unknown hook 'block_uot'", hook="block_uot")
    wrong(target, "layer 7 does not exist", layer=7)
    wrong(target, "give layer= (0 to 2)", layer=None)
    wrong(target, "unit 24 does not exist", units=24)
    wrong(target, "names a unit twice", units=[1, 1])
    wrong(target, "names no unit", units=[])
    wrong(target[1:3], "give length=", positions=[1, 2])
    wrong(target[1:3], "position 9 is outside the sentence of 6 tokens", positions=[1, 9], length=6)
    wrong(target[1:3], "the target has 2 rows for 3 positions", positions=slice(1, 4), length=8)
    wrong(target, "the sentence is not known, so give positions by number", positions="dog")
    for length in (2, 0, -1, 33):
        wrong(target[1:3], f"a length of {length} tokens is impossible", "3 to 32", positions=[1, 2], length=length)
    wrong(target[1:3], "length= names no length", positions=[1, 2], length=[])
    wrong(target, "the target has 8 positions, and a sentence of 9 tokens was asked for", length=9)
    wrong(target, "the truth has 4 tokens, the sentence 8", truth="a dog", length=8)
    wrong(target, "the target has 8 positions, and a sentence of 4 tokens", start="a dog")
    wrong(TEXT, "the target is a text, and so the truth itself", truth=TEXT)
    wrong(TEXT, "length = 5, and the text has 8 tokens", length=5)
    wrong(TEXT, "the text holds 'red' at position 2, which allowed=['the'] rules out", allowed=["the"])


def test_options_that_can_not_be(model):
    for option, value in (("starts", 0), ("patience", -1), ("rivals", -1), ("budget", 0), ("starts", 1.5)):
        if isinstance(value, float):
            continue
        with says(f"{option} = {value}", "give a whole number"):
            td.reconstruct(model, TEXT, layer=0, **{option: value})
    with says("unknown method 'articel'; nearest: article"):
        td.reconstruct(model, TEXT, layer=0, method="articel")
    with says("steps= goes with method"):
        td.reconstruct(model, TEXT, layer=0, steps=3)
    with says("steps = 0"):
        td.reconstruct(model, TEXT, layer=0, steps=0, method="article")
