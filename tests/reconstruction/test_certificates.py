"""The room reconstruction.certificates."""

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.objectives import raw
from tests.support.reconstruction import QUICK, READ, TEXT, error_of, tensor_of
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.reconstruction import certificates
from tl_dream.reconstruction.certificates import read_rivals
from tl_dream.reconstruction.targets import Target


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


def twins(model, gap, word="dog", twin="cat"):
    """Give a word an embedding that is another's plus `gap`."""
    W = model.W_E
    with torch.no_grad():
        W[VOCAB.index(twin)] = W[VOCAB.index(word)] + gap


@pytest.mark.parametrize(("size", "constant"), [(0.0, False), (1e-7, False), (3e-5, False), (0.0, True)])
def test_twins_are_never_certified(tiny_folder, size, constant):
    """LayerNorm does not see a constant, however large; nor does arithmetic see the rest."""
    model = td.load_model(str(tiny_folder))
    draw = torch.Generator().manual_seed(1)
    twins(model, 0.7 if constant else size * torch.randn(24, generator=draw))
    for text in (TEXT, TEXT.replace("dog", "cat")):
        result = td.reconstruct(model, text, layer=0, **QUICK)
        assert result.certificate.matched and not result.certified and result.right >= 5
        assert "can't be told apart" in str(result) and result.certificate.margin < 10


def test_near_twins_that_can_be_told_apart(tiny_folder):
    model = td.load_model(str(tiny_folder))
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
    assert td.certify(model, TEXT, TEXT, layer=0) == good, "a text stands for its own activation, as in reconstruct"
    assert not td.certify(model, TEXT.replace("dog", "cat"), TEXT, layer=0).matched
    at = TEXT.split().index("dog") + 1
    found = [td.certify(model, TEXT, target[[at]], layer=0, positions=given) for given in (["dog"], [at])]
    assert found[0] == found[1] and found[0].matched
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


def test_rounding_is_no_gain(model, monkeypatch):
    """Where each of two twins looks better than the other when measured as a rival, the examination still ends."""
    target = tensor_of(model, layer=0) + 0.3 * torch.randn(8, 24, generator=torch.Generator().manual_seed(1))
    calls = []

    def compare(self, host, tokens, *, patient=False, plain=Target.compare):
        calls.append(len(tokens))
        assert len(calls) < 40, "it goes on for ever"
        found = yield from plain(self, host, tokens)
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


@pytest.mark.parametrize("given", [None, 0, 5, "all"])
def test_rivals(given: object) -> None:
    assert read_rivals(given) == given


def test_what_can_not_be() -> None:
    with says('rivals = 1.5: give a whole number of at least 0, or "all"'):
        read_rivals(1.5)


def test_a_long_sentence_has_fewer_rivals_a_word_unless_they_are_asked_for(model, monkeypatch):
    """So that what a certificate costs does not grow with the square of the length."""
    target = tensor_of(model, layer=1)
    short, asked = (td.certify(model, TEXT, target, layer=1, rivals=rivals) for rivals in (None, 12))
    assert short.tried == asked.tried > 6 * 12 * 0.8
    monkeypatch.setattr(certificates, "IN_ALL", 18)  # as if six words were many: three each
    few = td.certify(model, TEXT, target, layer=1)
    assert 6 * 3 <= few.tried <= 6 * (3 + 1) + 15 and few.certified
    assert td.certify(model, TEXT, target, layer=1, rivals=12).tried == asked.tried
