"""Reconstruction: the text comes back, certificates are true, and every kind of target and mistake has its answer."""

import subprocess
import sys

import pytest
import torch
from conftest import VOCAB, says
from test_objectives import raw

import tl_dream as td
from tl_dream.hosts import attached
from tl_dream.models import forward
from tl_dream.questions import _check_tensor
from tl_dream.targets import Target

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
    measured = error_of(tiny_encoder, result.best.ids, tensor_of(tiny_encoder, layer=layer), layer)
    assert result.certificate.error == pytest.approx(measured, abs=1e-6)
    assert result.layer == layer and result.cost.forwards > 0 and result.seed == 0


def test_a_saved_activation_is_enough(model):
    """No truth is given; a batch axis of one does not matter."""
    target = tensor_of(model)
    for given in (target, target[None], target.double()):
        result = td.reconstruct(model, given, layer=0, **QUICK)
        assert result.text == READ and result.certified
        assert result.truth is None and result.right is None and result.exact is None and result.missed is None


NUMBERS = """
import sys, numpy, torch
import tl_dream as td

wide = {"rivals": numpy.int64(4), "budget": numpy.int64(300), "starts": torch.tensor(1)}
result = td.reconstruct(td.load_model(sys.argv[1]), "i do see the sun", layer=0, progress=False, **wide)
result.save(sys.argv[2])
assert {type(result.settings[name]) for name in wide} == {int}, result.settings
"""


def test_numbers_of_any_kind_are_saved_as_plain_ones(tiny_folder, tmp_path):
    """JSON has no room for numpy's, and the search would be lost. (Apart, since types are checked in here.)"""
    file = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-c", NUMBERS, str(tiny_folder), str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert td.Reconstruction.load(file).settings["budget"] == 300


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
    assert words.text == READ and words.certified and words.certificate.missing == ()
    assert words.positions == tuple(range(1, 7))
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
    assert one.matched and one.missing == (1, 3, 4, 5, 6) and not one.certified
    assert str(one).startswith("matched, not certified") and "no row for 5 of the positions searched (1, 3, 4" in str(
        one
    )


def test_rows_in_the_order_of_the_positions(model):
    """And units in the order of theirs."""
    target = tensor_of(model, layer=0)
    order, units = [6, 2, 4, 1, 3, 5], [9, 2, 5, 7, 20, 11]
    for given in (order, [i - 8 for i in order]):
        assert td.certify(model, TEXT, target[order], layer=0, positions=given).certified
    assert td.certify(model, TEXT, target, layer=0, positions=order).certified, "the whole activation is from the left"
    assert td.certify(model, TEXT, target[:, units], layer=0, units=units).certified
    assert td.certify(model, TEXT, target, layer=0, units=units).certified
    words = td.reconstruct(model, target[[5, 2]], TEXT, layer=0, positions=["old", "red"], patience=0, **QUICK)
    assert words.certificate.matched and words.positions == (2, 5)


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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_targets(model, dtype):
    """Half a step of every number is the target's own rounding; what goes beyond that is a difference."""
    target = tensor_of(model, layer=0)
    result = td.reconstruct(model, target.to(dtype), layer=0, **QUICK)
    assert result.text == READ and result.certified, str(result)
    assert result.certificate.tolerance < 2e-5
    moved = target.to(dtype)
    moved[3, 5] += 2 * torch.finfo(dtype).eps * moved[3, 5]
    assert not td.certify(model, TEXT, moved, layer=0).matched
    assert not td.certify(model, TEXT, target.to(dtype).float(), layer=0).matched, "nothing says that it was rounded"


def test_half_precision_models(fresh_encoder):
    narrow = fresh_encoder(dtype=torch.bfloat16)
    result = td.reconstruct(narrow, TEXT, layer=0, **QUICK)
    assert result.right >= 5 and (result.exact or not result.certified)
    assert 1e-2 < result.certificate.tolerance < 0.2


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


def quiet(model, *hooks):
    """The user's own hooks, for a `with`: "places" silences the position embeddings, "heads" gives every position what
    the attention heads find on average."""
    with attached(model) as host:
        names = {"places": host.resolve("pos_embed"), "heads": host.resolve("z", 0)}
    changes = {"places": torch.zeros_like, "heads": lambda x: x.mean(1, keepdim=True).expand(x.shape).clone()}
    return model.hooks(fwd_hooks=[(names[kind], lambda x, hook, kind=kind: changes[kind](x)) for kind in hooks])


def test_no_order_no_certificate(model):
    """With silent positions every order of the words gives [CLS] the same activation, and only [CLS] is asked for."""
    with quiet(model, "places"):
        target = tensor_of(model)
        for text in (TEXT, "the old dog was red ."):
            found = td.certify(model, text, target[0], layer=0, positions=0)
            assert found.matched and not found.certified and found.missing == tuple(range(1, 7))
        assert td.certify(model, TEXT, target, layer=0).certified
        assert not td.certify(model, "the old dog was red .", target, layer=0).matched
        result = td.reconstruct(model, target, layer=0, **QUICK)
        assert result.text == READ and result.certified


def test_words_that_can_be_exchanged_are_not_certified(model):
    """Where all positions are alike nothing tells in which order the words stood, though each of them is seen."""
    with quiet(model, "places", "heads"):
        target = tensor_of(model, hook="attn_out")
        for text in (TEXT, "the old dog was red ."):
            found = td.certify(model, text, target, hook="attn_out", layer=0)
            assert found.matched and not found.certified and found.rival.partner is not None
            assert "exchanged can't be told apart" in str(found)


def test_one_hidden_exchange_in_a_long_text(model):
    """Of 190 pairs one can be exchanged unseen, and of so many only some are measured: it is among them."""
    text = "the red dog was old and the cat saw a moon the black bird sees me and you ."

    def mean(x, hook):
        x = x.clone()
        if x.shape[1] > 8:
            x[:, [3, 8]] = x[:, [3, 8]].mean(1, keepdim=True)
        return x

    with attached(model) as host:
        sentence = host.vocabulary.read(text)
        embed, places = host.resolve("embed"), host.resolve("pos_embed")
    assert len(sentence) > 18 and sentence.tokens[3] != sentence.tokens[8]
    with model.hooks(fwd_hooks=[(embed, mean), (places, lambda x, hook: torch.zeros_like(x))]):
        found = td.certify(model, text, tensor_of(model, text), layer=0)
    assert found.matched and not found.certified and {found.rival.pos, found.rival.partner} == {3, 8}


@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_near_synonyms_exchanged_on_minilm(minilm, precision):
    """[CLS] hardly sees the order of words that mean much the same."""
    target = raw(minilm, "methods method", "block_out", 0)[0].to(precision)
    for text in ("method methods", "methods method"):
        assert not td.certify(minilm, text, target, layer=0, positions=0).certified
    if precision == torch.float32:  # float16 has no room for the difference
        result = td.reconstruct(minilm, target, "method methods", layer=0, positions=0, patience=0, budget=1, **QUICK)
        assert result.text == "methods method" and not result.certified, "the exchange is found, and returned"


def test_one_position_is_matched_and_never_certified_on_minilm(minilm):
    """Also where no rival comes near: what other orders and sentences might do was not all tried."""
    text = "the old painter was mixing colors ."
    found = td.certify(minilm, text, raw(minilm, text, "block_out", 3)[4], layer=3, positions=4)
    assert found.matched and found.tells and found.margin > 100 and not found.certified
    assert found.missing == (1, 2, 3, 5, 6, 7) and "other sentences may match it as well" in str(found)


def test_a_target_off_by_more_than_arithmetic_on_minilm(minilm):
    text = "the old painter was mixing colors ."
    draw = torch.Generator().manual_seed(0)
    for layer in (0, 5):
        target = raw(minilm, text, "block_out", layer)
        scale = target.square().mean().sqrt()
        assert td.certify(minilm, text, target, layer=layer, rivals=2).certified
        noisy = target + 2e-5 * scale * torch.randn(target.shape, generator=draw)
        found = td.certify(minilm, text, noisy, layer=layer, rivals=0)
        assert not found.matched and found.tolerance < 1e-5 < found.error
        one = target.clone()
        one[4, 17] += 1e-4 * scale
        found = td.certify(minilm, text, one, layer=layer, rivals=0)
        assert not found.matched and found.error < found.tolerance, "only that number tells"
        assert "a single number by 1.0e-04" in str(found)


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
    assert result.certified and result.changed == () and result.cost.forwards < 300


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


def test_the_articles_method_returns_what_its_sentence_was(model):
    """Not the frame of [MASK] tokens around it."""
    result = td.reconstruct(model, torch.zeros(8, 24) + 0.1, layer=0, method="article", steps=1, **QUICK)
    assert result.tokens in result.history.tokens and "[MASK]" not in result.tokens
    assert result.loss == pytest.approx(-max(result.history.hard_score), rel=1e-4)


def test_the_articles_method_keeps_a_better_start(model):
    target = tensor_of(model)
    result = td.reconstruct(model, target, TEXT, layer=0, method="article", steps=1, **QUICK)
    assert result.text == READ and result.certified and result.changed == ()
    poor = "the the the the the the"
    other = td.reconstruct(model, target, poor, layer=0, method="article", steps=60, **QUICK)
    assert other.loss < -other.start.score and other.text != poor


# ---------------------------------------------------------------- effort


def test_rounding_is_no_gain(model, monkeypatch):
    """Where each of two twins looks better than the other when measured as a rival, the examination still ends."""
    target = tensor_of(model, layer=0) + 0.3 * torch.randn(8, 24, generator=torch.Generator().manual_seed(1))
    calls = []

    def compare(self, host, ids, plain=Target.compare):
        calls.append(len(ids))
        assert len(calls) < 40, "it goes on for ever"
        found = plain(self, host, ids)
        found.errors[1:] = found.errors[:1] * (1 - 1e-6)
        return found

    monkeypatch.setattr(Target, "compare", compare)
    td.reconstruct(model, target, TEXT, layer=0, patience=0, **QUICK)


def test_the_certificate_does_not_go_on_beyond_the_budget(model):
    """It is measured whole once; where rivals are better it goes on from them only while there is budget, and returns
    the best it saw."""
    target = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
    bare, spent, free = (
        td.reconstruct(model, target, layer=0, patience=0, budget=budget, rivals=rivals, **QUICK)
        for budget, rivals in ((1, 0), (1, 12), (2000, 12))
    )
    one = 6 * 18 + 15 + 2 + 2 * 50  # swaps, exchanges, the tokens and the best rival, and the gradients that rank them
    assert spent.cost.forwards <= bare.cost.forwards + one
    assert free.loss < spent.loss < bare.loss and spent.stopped == "budget"


def test_every_allowed_token_as_a_rival(model):
    """The cheapest other tokens are those of brute force; a shortlist holds the first of them."""
    target = tensor_of(model, layer=2)
    certificate = td.certify(model, TEXT, target, layer=2, rivals="all")
    result = td.reconstruct(model, target, TEXT, layer=2, rivals="all", **QUICK)
    short = td.reconstruct(model, target, TEXT, layer=2, **QUICK)
    assert certificate == result.certificate
    allowed = [i for i, token in enumerate(VOCAB) if "unused" not in token]
    with attached(model) as host, torch.no_grad():
        name = host.resolve("block_out", 2)
        for slot, pos in enumerate(result.free):
            others = [i for i in allowed if i != result.best.ids[pos]]
            rows = torch.tensor([result.best.ids]).repeat(len(others), 1)
            rows[:, pos] = torch.tensor(others)
            losses = (forward(host, rows, [name])[name] - target).square().mean((1, 2)) / target.square().mean()
            order = losses.argsort().tolist()[:64]
            swaps = result.alternatives[slot]
            assert [swap.other_id for swap in swaps] == [others[i] for i in order]
            assert [swap.cost for swap in swaps] == pytest.approx(losses[order].tolist(), rel=1e-3)
            known, costs = {swap.other_id: swap.cost for swap in swaps}, [s.cost for s in short.alternatives[slot]]
            assert costs == sorted(costs) and any(swap.other_id in known for swap in short.alternatives[slot])
            for swap in short.alternatives[slot]:
                assert swap.cost == pytest.approx(known.get(swap.other_id, swap.cost), rel=1e-3)
            assert 12 <= len(short.alternatives[slot]) <= 18


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
    for factor in (1e30, 1e19, 1e-25):
        wrong(target * factor, "the target's root mean square is", "do not fit float32", "as it was recorded")
    wrong(target.double() * 1e300, "the target's root mean square is", "e+3")
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
    wrong(target.flip(1), "names every unit, but not in order", units=list(range(23, -1, -1)))
    wrong(
        target.flip(0), "names every position, but not from left to right", positions=list(range(7, -1, -1)), length=8
    )
    wrong(target[[1, 1]], "names a position twice", positions=[1, 1], length=8)
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
    for option, value in (("starts", 0), ("patience", -1), ("rivals", -1), ("budget", 0), ("starts", True)):
        with says(f"{option} = {value}", "give a whole number"):
            td.reconstruct(model, TEXT, layer=0, **{option: value})
    with says("unknown method 'articel'; nearest: article"):
        td.reconstruct(model, TEXT, layer=0, method="articel")
    with says("steps= goes with method"):
        td.reconstruct(model, TEXT, layer=0, steps=3)
    with says("rivals = 'al': give a whole number of at least 0, or \"all\""):
        td.reconstruct(model, TEXT, layer=0, rivals="al")
    with says("steps = 0"):
        td.reconstruct(model, TEXT, layer=0, steps=0, method="article")


def test_targets_of_another_kind(model):
    """Asked of the check itself: under test the types of arguments are checked before the package sees them."""
    with attached(model) as host:
        for given in (tensor_of(model).numpy(), [[1.0]], None):
            with says(f"the target is a {type(given).__name__}: give a text or a tensor", "torch.as_tensor(target)"):
                _check_tensor(host, given)
