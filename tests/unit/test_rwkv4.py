"""RWKV-4 against transformers on the same weights; its recurrence, whole, in chunks and in pieces; what is refused."""

import pytest
import torch
from hybridlab.ssm.mixer_state import state_bytes
from hybridlab.ssm.rwkv4 import Rwkv4
from hybridlab.ssm.rwkv4_weights import from_transformers
from hybridlab.ssm.rwkv_config import RwkvConfig
from hybridlab.ssm.wkv4 import chunked_wkv4, wkv4
from torch.nn import functional as F
from transformers import GPT2Config, GPT2Model, RwkvForCausalLM, RwkvModel
from transformers import RwkvConfig as TheirConfig
from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

from tests.unit.cut_text import assert_cuts_change_nothing

SIZES = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 5}
THEIRS = {
    "RwkvModel": lambda: RwkvModel(TheirConfig(**SIZES)),
    "RwkvForCausalLM": lambda: RwkvForCausalLM(TheirConfig(**SIZES, intermediate_size=40, layer_norm_epsilon=1e-3)),
    "RwkvForCausalLM, halved every 2 blocks": lambda: RwkvForCausalLM(TheirConfig(**SIZES, rescale_every=2)),
    "RwkvForCausalLM, never halved": lambda: RwkvForCausalLM(TheirConfig(**SIZES, rescale_every=0)),
}
FORMS = {"loop": wkv4, "chunked": chunked_wkv4}


def theirs(kind):
    """A model of transformers with random weights, all of them."""
    torch.manual_seed(0)
    model = THEIRS[kind]().eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def ours(**changes):
    """A small model whose mixings write something, unlike a new one's."""
    torch.manual_seed(0)
    model = Rwkv4(RwkvConfig(23, **{"d_model": 16, **changes}))
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def tokens(time, *, batch=2, vocab=23):
    return torch.randint(vocab, (batch, time), generator=torch.Generator().manual_seed(1))


def wkv_inputs(time, dtype=torch.float64, scale=1.0):
    g = torch.Generator().manual_seed(2)
    k, v = (torch.randn(2, time, 6, generator=g, dtype=dtype) for _ in range(2))
    return k * scale, v, torch.rand(6, generator=g, dtype=dtype) + 1e-3, torch.randn(6, generator=g, dtype=dtype) * scale


def by_definition(k, v, decay, bonus):
    """Equation 16 of 2305.13048, sum by sum, with torch's softmax over the exponents."""
    out = torch.empty_like(v)
    for t in range(k.shape[1]):
        exponents = [k[:, i] - (t - 1 - i) * decay for i in range(t)] + [bonus + k[:, t]]
        out[:, t] = (torch.softmax(torch.stack(exponents, 1), 1) * v[:, : t + 1]).sum(1)
    return out


def sums(state):
    """What a state stands for, however it is scaled: the mean so far and the logarithm of its weight."""
    a, b, m = state.unbind(1)
    return a / b, b.log() + m


# ---------------------------------------------------------------- against others


@pytest.mark.parametrize("kind", THEIRS)
def test_the_same_weights_give_what_transformers_gives(kind):
    model = theirs(kind)
    ids = tokens(70, vocab=50)
    before = from_transformers(model)
    with torch.no_grad():
        out = model(ids)
        expected = out.logits if "LM" in kind else out.last_hidden_state
        for mine in (before, from_transformers(model)):  # its weights are other ones after its first call
            got = mine(ids)[0] if "LM" in kind else mine.read(ids)[0]
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.1


def test_token_by_token_gives_what_transformers_gives_with_its_state():
    """One text: with more, transformers' own step mixes them up."""
    model = theirs("RwkvForCausalLM")
    mine, ids = from_transformers(model), tokens(40, batch=1, vocab=50)
    with torch.no_grad():
        out = model(ids[:, :30], use_cache=True)
        _, state = mine(ids[:, :30])
        for t in range(30, 40):
            out = model(ids[:, t : t + 1], state=out.state, use_cache=True)
            got, state = mine(ids[:, t : t + 1], state)
            torch.testing.assert_close(got, out.logits, rtol=0, atol=1e-4)
    for layer, mine_now in enumerate(state):
        a, b, m = (out.state[i][:, :, layer] for i in (2, 3, 4))
        torch.testing.assert_close(sums(mine_now.memory), sums(torch.stack([a, b, m], 1)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
def test_wkv_is_the_papers_equation_and_transformers_loop(form):
    k, v, decay, bonus = wkv_inputs(67)
    y, state = FORMS[form](k, v, decay, bonus)
    torch.testing.assert_close(y, by_definition(k, v, decay, bonus))
    their_y, their_state = rwkv_linear_attention_cpu(decay.log(), bonus, k, v, return_state=True)
    torch.testing.assert_close(y, their_y, rtol=1e-5, atol=1e-6)  # they keep keys in float32
    torch.testing.assert_close(sums(state), sums(torch.stack(their_state, 1)), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- whole, in chunks, in pieces


@pytest.mark.parametrize(("time", "chunk"), [(1, 32), (2, 32), (31, 32), (32, 32), (33, 32), (40, 1), (500, 7), (5000, 32)])
def test_chunks_are_the_loop_value_for_value(time, chunk):
    inputs = wkv_inputs(time)
    y, state = wkv4(*inputs)
    got, got_state = chunked_wkv4(*inputs, chunk=chunk)
    torch.testing.assert_close(got, y, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(got_state, state, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cuts", [[1] * 75, [1, 2, 3, 68, 1], [33, 42]], ids=["ones", "mixed", "two"])
def test_wkv_goes_on_from_its_state(form, cuts):
    k, v, decay, bonus = wkv_inputs(75)
    whole, end = FORMS[form](k, v, decay, bonus)
    state, ys = None, []
    for k_part, v_part in zip(k.split(cuts, 1), v.split(cuts, 1), strict=True):
        y, state = FORMS[form](k_part, v_part, decay, bonus, state)
        ys.append(y)
    torch.testing.assert_close(torch.cat(ys, 1), whole)
    torch.testing.assert_close(state, end)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_wkv_are_those_of_the_equation(form):
    inputs = [tensor.requires_grad_() for tensor in wkv_inputs(21, scale=3.0)]
    wanted = torch.autograd.grad(by_definition(*inputs).square().sum(), inputs)
    got = torch.autograd.grad(FORMS[form](*inputs)[0].square().sum(), inputs)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_keys_of_any_size_give_numbers_and_gradients(form, scale):
    k, v, decay, bonus = (tensor.float().requires_grad_() for tensor in wkv_inputs(70))
    y, _ = FORMS[form](k * scale, v, decay, bonus * scale)
    y.sum().backward()
    assert y.abs().max() <= v.abs().max()  # a mean
    assert all(torch.isfinite(tensor.grad).all() for tensor in (k, v, decay, bonus))


@pytest.mark.parametrize("cuts", [[1] * 75, [1, 2, 3, 68, 1], [74, 1]], ids=["ones", "mixed", "last"])
def test_a_text_may_be_cut_anywhere(cuts):
    assert_cuts_change_nothing(ours().double(), tokens(75), cuts)


def test_the_state_keeps_its_size_and_its_float32():
    model = ours().bfloat16()
    with torch.no_grad():
        _, short = model(tokens(1))
        _, long = model(tokens(3000))
    assert state_bytes(long) == state_bytes(short)
    assert all(layer.memory.dtype == torch.float32 for layer in long)


def test_in_bfloat16_the_last_of_3000_tokens_is_as_near_as_the_first():
    wide = ours()
    wide.load_state_dict({name: p.bfloat16().float() for name, p in wide.state_dict().items()})
    with torch.no_grad():
        exact, _ = wide(tokens(3000))
        got, _ = wide.bfloat16()(tokens(3000))
    gap = (got.float() - exact).pow(2).mean((0, 2)).sqrt() / exact.std()
    assert gap[-500:].mean() < 2 * gap[:500].mean() < 0.1


def test_the_future_changes_nothing_and_the_past_does():
    model, ids = ours(), tokens(60)
    changed = ids.clone()
    changed[:, 30] = (changed[:, 30] + 1) % 23
    with torch.no_grad():
        before, after = model(ids)[0], model(changed)[0]
    assert torch.equal(before[:, :30], after[:, :30])
    assert (before[:, 30:] != after[:, 30:]).any(-1).all()


def test_every_weight_learns():
    model = ours()
    F.cross_entropy(model(tokens(40))[0][:, :-1].flatten(0, 1), tokens(40)[:, 1:].flatten()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def test_a_new_model_begins_as_transformers_begins():
    """The decays, bonuses and mixes of the layers; theirs sets the bonus to 1 everywhere, the paper's code to ln 0.3 and a zigzag."""
    torch.manual_seed(0)
    config = TheirConfig(vocab_size=50, hidden_size=24, num_hidden_layers=3)
    weights = RwkvForCausalLM(config).state_dict()
    for name, mine in Rwkv4(RwkvConfig(50, d_model=24, n_layers=3)).named_parameters():
        if "time_decay" in name or "time_mix" in name:
            torch.testing.assert_close(mine.data, weights[f"rwkv.{name}"])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("form", FORMS)
def test_what_wkv_refuses(form):
    k, v, decay, bonus = wkv_inputs(6)
    run = FORMS[form]
    for wrong, message in (
        ((k[:, :0], v[:, :0], decay, bonus), r"k has shape \(2, 0, 6\): there is nothing to read"),
        ((k, v[:, :5], decay, bonus), r"v has shape \(2, 5, 6\), expected \(2, 6, 6\)"),
        ((k, v, decay[:5], bonus), r"decay has shape \(5,\)"),
        ((k, v, decay, bonus[:5]), r"bonus has shape \(5,\)"),
        ((k, v, decay, bonus, torch.zeros(2, 2, 6)), r"state has shape \(2, 2, 6\), expected \(2, 3, 6\)"),
        ((k, v, -decay, bonus), r"decay has -0\.\d+ in it; it must be finite, and at least 0"),
        ((k, v, decay * torch.nan, bonus), "decay has nan in it"),
        ((k, v, decay + torch.inf, bonus), "decay has inf in it"),
        ((k * torch.nan, v, decay, bonus), "72 of 72 numbers of k are NaN or infinite"),
        ((k, v + torch.inf, decay, bonus), "72 of 72 numbers of v are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            run(*wrong)
    with pytest.raises(ValueError, match="chunk is 0"):
        chunked_wkv4(k, v, decay, bonus, chunk=0)


def test_a_state_of_another_model_is_refused():
    model = ours()
    for wrong, message in (
        (model(tokens(5))[1][:1], "a state of 1 layers was given, and the model has 2"),
        (ours(d_model=32)(tokens(5))[1], "last has shape"),
        (model(tokens(5, batch=1))[1], "last has shape"),
        ([layer._replace(memory=layer.memory[:, :2]) for layer in model(tokens(5))[1]], "state has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model(tokens(5), wrong)


def test_no_tokens_and_weights_that_are_no_numbers_are_refused():
    model = ours()
    with pytest.raises(ValueError, match=r"tokens has shape \(2, 0\): there is nothing to read"):
        model(tokens(0))
    model.embeddings.weight.data[3] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        model(torch.full((1, 4), 3))
    model = ours()
    model.blocks[0].attention.time_decay.data[0] = 1e3
    with pytest.raises(ValueError, match="decay has inf in it"):
        model(tokens(4))


@pytest.mark.parametrize(
    ("changes", "message"), [({"d_model": 0}, "d_model=0"), ({"d_ff": -1}, "d_ff=-1"), ({"norm_eps": 0}, "norm_eps=0")]
)
def test_a_config_that_cannot_be_built_says_why(changes, message):
    with pytest.raises(ValueError, match=message):
        RwkvConfig(23, **changes)


def test_what_ours_cannot_do_is_named_when_weights_are_loaded():
    with pytest.raises(ValueError, match="attention_hidden_size=12 is not supported"):
        from_transformers(RwkvModel(TheirConfig(**SIZES, attention_hidden_size=12)))
    with pytest.raises(ValueError, match="'gpt2' is not rwkv"):
        from_transformers(GPT2Model(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9)))
