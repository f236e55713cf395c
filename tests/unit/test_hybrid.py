"""The hybrid against transformers' Jamba on the same weights, its experts too; whole, in pieces, in a window; what is refused."""

import pytest
import torch
from hybridlab.ssm.hybrid import Hybrid, HybridConfig
from hybridlab.ssm.hybrid_weights import config_of, from_transformers
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mixer_state import MixerState, state_bytes
from hybridlab.ssm.window_attention import AttentionState, WindowAttention
from hybridlab.transformer.mlp import SwiGLU
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, JambaConfig, JambaForCausalLM
from transformers.models.jamba.modeling_jamba import JambaSparseMoeBlock

from tests.unit.cut_text import assert_cuts_change_nothing

JAMBA = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 5,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_layer_period": 3,
    "attn_layer_offset": 1,
    "mamba_dt_rank": 5,
    "mamba_d_state": 6,
    "num_experts": 1,
}
SHAPES = {"jamba": {"version": 1}, "mamba-2": {"version": 2, "d_head": 8}}


def ours(kind="jamba", experts=None, *, mamba=None, **changes):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layers": 3, "d_state": 4, **SHAPES[kind], **(mamba or {})}
    return Hybrid(HybridConfig(MambaConfig(23, **sizes), **{"attention_every": 2, "attention_offset": 1, "d_ff": 24, **changes}), experts)


def tokens(time, *, batch=2, vocab=23):
    return torch.randint(vocab, (batch, time), generator=torch.Generator().manual_seed(1))


def jamba(**changes):
    """A Jamba with random weights, its gains, biases and D too."""
    torch.manual_seed(0)
    model = JambaForCausalLM(JambaConfig(**JAMBA | changes)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model


# ---------------------------------------------------------------- against others


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": True, "rms_norm_eps": 0.1, "attn_layer_offset": 2}], ids=["dense", "tied"])
def test_the_same_weights_give_what_transformers_jamba_gives(changes):
    model, ids = jamba(**changes), tokens(70, vocab=50)
    mine = from_transformers(model)
    with torch.no_grad():
        expected, (got, _) = model(ids).logits, mine(ids)
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-4 if changes else 1e-4)


def test_transformers_experts_fit_the_slot_and_give_what_its_jamba_gives():
    model, ids = jamba(num_experts=4, num_experts_per_tok=2, expert_layer_period=2, expert_layer_offset=1), tokens(70, vocab=50)
    mine = from_transformers(model, experts=lambda d_model: JambaSparseMoeBlock(model.config))
    assert [isinstance(layer.mlp, JambaSparseMoeBlock) for layer in mine.layers] == [False, True, False, True, False]
    with torch.no_grad():
        torch.testing.assert_close(mine(ids)[0], model(ids).logits, rtol=0, atol=1e-4)


def test_token_by_token_gives_what_jamba_gives_with_its_cache():
    model, ids = jamba(), tokens(40, vocab=50)
    mine = from_transformers(model)
    with torch.no_grad():
        out = model(ids[:, :30], use_cache=True)
        _, state = mine(ids[:, :30])
        for t in range(30, 40):
            out = model(ids[:, t : t + 1], past_key_values=out.past_key_values, use_cache=True)
            got, state = mine(ids[:, t : t + 1], state)
            torch.testing.assert_close(got, out.logits, rtol=0, atol=1e-4)


def test_the_defaults_are_jambas():
    theirs = config_of(JambaConfig(vocab_size=50, hidden_size=64, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2))
    mine = HybridConfig(MambaConfig(50, n_layers=8))
    for name in ("attention_every", "attention_offset", "experts_every", "experts_offset", "window"):
        assert getattr(mine, name) == getattr(theirs, name)
    assert [theirs.attends(layer) for layer in range(8)] == [layer == 4 for layer in range(8)]


# ---------------------------------------------------------------- the state


@pytest.mark.parametrize("window", [None, 1, 8])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("cuts", [[1] * 75, [1, 2, 3, 68, 1], [74, 1], [33, 42]], ids=["ones", "mixed", "last", "two"])
def test_a_text_may_be_cut_anywhere(kind, window, cuts):
    assert_cuts_change_nothing(ours(kind, window=window).double(), tokens(75), cuts)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_state_grows_up_to_the_window_and_no_further(kind):
    with torch.no_grad():
        within = {time: ours(kind, window=16)(tokens(time, batch=1))[1] for time in (1, 15, 16, 3000)}
        without = {time: ours(kind)(tokens(time, batch=1))[1] for time in (15, 3000)}
    sizes = {time: state_bytes(states) for time, states in within.items()}
    assert sizes[1] < sizes[15] == sizes[16] == sizes[3000]
    grown = [state.keys.shape[2] for state in without[3000] if isinstance(state, AttentionState)]
    assert grown == [3000]
    for state in (*without[3000], *within[3000]):
        if isinstance(state, MixerState):
            assert state.memory.dtype == torch.float32
        assert all(part.untyped_storage().nbytes() == part.nbytes for part in state)  # no views that keep more than they show


def test_a_window_hides_what_lies_before_it_from_attention_alone():
    """Attention in a window of 4 can't see token 0 from token 4 on; the Mamba layers carry it there."""
    attention = WindowAttention(16, 4, 2, window=4)
    x = torch.randn(1, 12, 16, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[:, 0] += 1
    with torch.no_grad():
        differs = (attention(x)[0] != attention(changed)[0]).any(-1)[0]
        assert differs.tolist() == [True] * 4 + [False] * 8
        model, ids = ours(window=4), tokens(12, batch=1)
        other = ids.clone()
        other[:, 0] = (other[:, 0] + 1) % 23
        assert (model(ids)[0] != model(other)[0]).any(-1).all()


def test_attention_alone_sees_a_set_and_the_hybrid_an_order():
    attention, model = WindowAttention(16, 4, 2), ours()
    ids = tokens(12, batch=1)
    swapped = ids.clone()
    swapped[:, [2, 5]] = ids[:, [5, 2]]
    with torch.no_grad():
        x, y = model.embeddings(ids), model.embeddings(swapped)
        torch.testing.assert_close(attention(x)[0][:, -1], attention(y)[0][:, -1])
        assert (model(ids)[0][:, -1] - model(swapped)[0][:, -1]).abs().max() > 1e-4


def test_in_bfloat16_the_last_of_2000_tokens_is_as_near_as_the_first():
    wide = ours("mamba-2", window=64)
    wide.load_state_dict({name: p.bfloat16().float() for name, p in wide.state_dict().items()})
    with torch.no_grad():
        exact, _ = wide(tokens(2000))
        got, _ = wide.bfloat16()(tokens(2000))
    gap = (got.float() - exact).pow(2).mean((0, 2)).sqrt() / exact.std()
    assert gap[-500:].mean() < 2 * gap[:500].mean() < 0.1


@pytest.mark.parametrize("kind", SHAPES)
def test_the_future_changes_nothing(kind):
    model, ids = ours(kind), tokens(60)
    changed = ids.clone()
    changed[:, 30] = (changed[:, 30] + 1) % 23
    with torch.no_grad():
        before, after = model(ids)[0], model(changed)[0]
    torch.testing.assert_close(before[:, :30], after[:, :30], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_weight_learns(kind):
    model = ours(kind)
    F.cross_entropy(model(tokens(40))[0][:, :-1].flatten(0, 1), tokens(40)[:, 1:].flatten()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


# ---------------------------------------------------------------- the slot


def test_the_slot_takes_what_the_factory_makes_of_d_model():
    class Silent(nn.Module):
        def __init__(self, d_model):
            super().__init__()
            self.d_model = d_model

        def forward(self, x):
            assert x.shape[-1] == self.d_model
            return torch.zeros_like(x)

    model = ours(experts=Silent, experts_every=3, experts_offset=0)
    assert [type(layer.mlp) for layer in model.layers] == [Silent, SwiGLU, SwiGLU]
    assert model(tokens(5))[0].shape == (2, 5, 23)
    assert all(isinstance(layer.mlp, SwiGLU) for layer in ours().layers)


# ---------------------------------------------------------------- what is refused


def test_a_state_of_another_model_is_refused():
    model = ours()
    for wrong, message in (
        (model(tokens(5))[1][:1], "a state of 1 layers was given, and the model has 3"),
        (ours("mamba-2")(tokens(5))[1], "past has shape|state has shape"),
        (ours(mamba={"d_model": 32})(tokens(5))[1], "past has shape"),
        (model(tokens(5, batch=1))[1], "past has shape"),
        ([model(tokens(5))[1][0]] * 3, "the state of an attention layer is an AttentionState, not a MixerState"),
    ):
        with pytest.raises(ValueError, match=message):
            model(tokens(5), wrong)
    attention = WindowAttention(16, 4, 2)
    with pytest.raises(ValueError, match=r"keys has shape \(2, 4, 5, 4\), expected \(2, 2, 5, 4\)"):
        attention(torch.zeros(2, 1, 16), AttentionState(torch.zeros(2, 4, 5, 4), torch.zeros(2, 4, 5, 4)))


def test_no_tokens_and_weights_that_are_no_numbers_are_refused():
    model = ours()
    with pytest.raises(ValueError, match=r"tokens has shape \(2, 0\): there is nothing to read"):
        model(tokens(0))
    model.layers[1].mixer.v_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="numbers of v are NaN or infinite"):
        model(tokens(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_every": 0}, "attention_every=0"),
        ({"window": 0}, "window=0"),
        ({"attention_offset": 2}, "attention_offset=2 must lie from 0 to attention_every=2"),
        ({"experts_offset": -1}, "experts_offset=-1"),
        ({"attention_every": 8, "attention_offset": 4}, "none of 3 layers attends"),
        ({"n_heads": 3}, "must be a multiple of n_heads=3"),
        ({"n_kv_heads": 3}, "one of n_kv_heads=3"),
    ],
)
def test_a_config_that_cannot_be_built_says_why(changes, message):
    with pytest.raises(ValueError, match=message):
        ours(**changes)


def test_what_ours_cannot_do_is_named_when_weights_are_loaded():
    for wrong, message in (
        (JambaConfig(**JAMBA, hidden_act="gelu"), "hidden_act='gelu'"),
        (JambaConfig(**JAMBA, mamba_proj_bias=True), "mamba_proj_bias=True"),
        (GPT2Config(), "'gpt2' is not jamba"),
    ):
        with pytest.raises(ValueError, match=message):
            config_of(wrong)
    with pytest.raises(ValueError, match="the weights do not fit"):
        from_transformers(jamba(num_experts=2, num_experts_per_tok=1))  # nothing given for the slot
