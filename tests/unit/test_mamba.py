"""Mamba and Mamba-2 against transformers on the same weights; whole, in pieces and token by token; what is refused."""

import pytest
import torch
from hybridlab.ssm.causal_conv import causal_conv
from hybridlab.ssm.mamba_config import MambaConfig, step_bias, step_size
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.mamba_weights import from_transformers
from hybridlab.ssm.mixer_state import state_bytes
from torch.nn import functional as F
from transformers import Mamba2Config, Mamba2ForCausalLM, Mamba2Model, MambaForCausalLM, MambaModel
from transformers import MambaConfig as TheirMambaConfig

from tests.unit.cut_text import assert_cuts_change_nothing

ONE = {"vocab_size": 50, "hidden_size": 24, "state_size": 5, "num_hidden_layers": 3}
TWO = {"vocab_size": 50, "hidden_size": 32, "state_size": 6, "num_hidden_layers": 3, "num_heads": 8, "head_dim": 8, "chunk_size": 16}
OTHER = {"conv_kernel": 2, "time_step_rank": 7, "expand": 3, "layer_norm_epsilon": 0.1}
THEIRS = {
    "MambaModel": lambda: MambaModel(TheirMambaConfig(**ONE)),
    "MambaForCausalLM": lambda: MambaForCausalLM(TheirMambaConfig(**ONE)),
    "MambaForCausalLM, other sizes": lambda: MambaForCausalLM(TheirMambaConfig(**ONE | OTHER)),
    "Mamba2Model": lambda: Mamba2Model(Mamba2Config(**TWO, n_groups=1)),
    "Mamba2ForCausalLM": lambda: Mamba2ForCausalLM(Mamba2Config(**TWO, n_groups=2)),
    "Mamba2ForCausalLM, tied": lambda: Mamba2ForCausalLM(Mamba2Config(**TWO, n_groups=4, tie_word_embeddings=True, layer_norm_epsilon=0.1)),
}
SHAPES = {"mamba": {"version": 1, "d_model": 16}, "mamba-2": {"version": 2, "d_model": 16, "d_head": 8, "n_groups": 2}}


def theirs(kind):
    """A model of transformers with random weights, its gains, biases and D too."""
    torch.manual_seed(0)
    model = THEIRS[kind]().eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return model


def ours(kind, **changes):
    torch.manual_seed(0)
    return Mamba(MambaConfig(23, **{"d_state": 4, **SHAPES[kind], **changes}))


def tokens(time, *, batch=2, vocab=23):
    return torch.randint(vocab, (batch, time), generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------- against others


@pytest.mark.parametrize("kind", THEIRS)
def test_the_same_weights_give_what_transformers_gives(kind):
    model = theirs(kind)
    mine, ids = from_transformers(model), tokens(133, vocab=50)
    with torch.no_grad():
        out = model(ids)
        expected = out.logits if "LM" in kind else out.last_hidden_state
        got = mine(ids)[0] if "LM" in kind else mine.read(ids)[0]
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["MambaForCausalLM", "Mamba2ForCausalLM"])
def test_token_by_token_gives_what_transformers_gives_with_its_cache(kind):
    model = theirs(kind)
    mine, ids = from_transformers(model), tokens(40, vocab=50)
    with torch.no_grad():
        out = model(ids[:, :30], use_cache=True)
        _, state = mine(ids[:, :30])
        for t in range(30, 40):
            out = model(ids[:, t : t + 1], cache_params=out.cache_params, use_cache=True)
            got, state = mine(ids[:, t : t + 1], state)
            torch.testing.assert_close(got, out.logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_the_convolution_is_torchs(width, bias):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(5, 5, width, groups=5, padding=width - 1, bias=bias)
    x = torch.randn(2, 9, 5)
    y, past = causal_conv(x, conv.weight[:, 0], conv.bias)
    torch.testing.assert_close(y, conv(x.mT)[..., :9].mT)
    assert torch.equal(past, F.pad(x, (0, 0, width, 0))[:, -(width - 1) or 99 :])
    assert past.untyped_storage().nbytes() == past.nbytes  # not a view that keeps the text in memory


# ---------------------------------------------------------------- the state


@pytest.mark.parametrize("step", ["softplus", "relu"])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("cuts", [[1] * 75, [1, 2, 3, 68, 1], [74, 1], [33, 42]], ids=["ones", "mixed", "last", "two"])
def test_a_text_may_be_cut_anywhere(kind, step, cuts):
    assert_cuts_change_nothing(ours(kind, step=step).double(), tokens(75), cuts)


@pytest.mark.parametrize("kind", SHAPES)
def test_a_long_text_is_read_in_spans_and_the_state_keeps_its_size(kind):
    model = ours(kind)
    with torch.no_grad():
        _, short = model(tokens(1))
        logits, long = model(tokens(5000, batch=1))
        for cut in (2500, 5000):
            torch.testing.assert_close(model(tokens(5000, batch=1)[:, :cut])[0], logits[:, :cut], rtol=1e-4, atol=1e-5)
    assert 2 * state_bytes(long) == state_bytes(short)  # one text, two texts
    for before in long:
        assert before.memory.dtype == torch.float32


@pytest.mark.parametrize("kind", SHAPES)
def test_the_future_changes_nothing_and_the_past_does(kind):
    model, ids = ours(kind), tokens(60)
    changed = ids.clone()
    changed[:, 30] = (changed[:, 30] + 1) % 23
    with torch.no_grad():
        before, after = model(ids)[0], model(changed)[0]
    assert torch.equal(before[:, :30], after[:, :30])
    assert (before[:, 30:] != after[:, 30:]).any(-1).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_every_weight_learns(kind):
    model = ours(kind)
    F.cross_entropy(model(tokens(40))[0][:, :-1].flatten(0, 1), tokens(40)[:, 1:].flatten()).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not still


@pytest.mark.parametrize("kind", SHAPES)
def test_in_bfloat16_the_step_and_the_memory_are_float32(kind):
    """3,000 tokens read by bfloat16 weights: the last token's logits are as near to float32's as the first's."""
    wide = ours(kind)
    wide.load_state_dict({name: p.bfloat16().float() for name, p in wide.state_dict().items()})
    with torch.no_grad():
        exact, _ = wide(tokens(3000))
        got, state = wide.bfloat16()(tokens(3000))
    gap = (got.float() - exact).pow(2).mean((0, 2)).sqrt() / exact.std()
    assert state[0].memory.dtype == torch.float32
    assert gap[-500:].mean() < 2 * gap[:500].mean() < 0.1


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize("kind", ["softplus", "relu"])
def test_steps_begin_between_their_bounds(kind):
    dt = step_size(step_bias(10_000, kind), kind)
    assert 0.000999 < dt.min() < 0.0011
    assert 0.09 < dt.max() < 0.1001
    assert dt.median().log10().item() == pytest.approx(-2, abs=0.05)


def test_a_relu_step_can_be_nothing_and_a_softplus_step_cannot():
    z = torch.tensor([-3.0, 0.0, 2.0])
    assert step_size(z, "relu").tolist() == [0, 0, 2]
    torch.testing.assert_close(step_size(z, "softplus"), F.softplus(z))
    assert step_size(z.bfloat16(), "softplus").dtype == torch.float32


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("kind", SHAPES)
def test_a_state_of_another_model_is_refused(kind):
    model = ours(kind)
    _, state = model(tokens(5))
    other = next(name for name in SHAPES if name != kind)
    for wrong, message in (
        (state[:1], "a state of 1 layers was given, and the model has 2"),
        (ours(other)(tokens(5))[1], "past has shape|state has shape"),
        (ours(kind, d_model=32)(tokens(5))[1], "past has shape"),
        (ours(kind, d_state=6)(tokens(5))[1], "past has shape|state has shape"),
        (model(tokens(5, batch=1))[1], "past has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model(tokens(5), wrong)


@pytest.mark.parametrize("kind", SHAPES)
def test_no_tokens_and_weights_that_are_no_numbers_are_refused(kind):
    model = ours(kind)
    with pytest.raises(ValueError, match=r"tokens has shape \(2, 0\): there is nothing to read"):
        model(tokens(0))
    model.embeddings.weight.data[3] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        model(torch.full((1, 4), 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 0}, "d_model=0"),
        ({"version": 3}, "version=3"),
        ({"step": "gelu"}, "step='gelu'"),
        ({"d_head": 24}, "must be a multiple of d_head=24"),
        ({"n_groups": 3}, "one of n_groups=3"),
        ({"norm_eps": 0.0}, "norm_eps=0.0"),
    ],
)
def test_a_config_that_cannot_be_built_says_why(changes, message):
    with pytest.raises(ValueError, match=message):
        MambaConfig(23, **changes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TheirMambaConfig(**ONE, use_bias=True), "use_bias=True"),
        (TheirMambaConfig(**ONE, use_conv_bias=False), "use_conv_bias=False"),
        (TheirMambaConfig(**ONE, hidden_act="gelu"), "hidden_act='gelu'"),
        (Mamba2Config(**TWO, n_groups=1, time_step_limit=(0.0, 0.1)), "time_step_limit"),
    ],
)
def test_what_ours_cannot_do_is_named_when_weights_are_loaded(config, message):
    kind = MambaModel if config.model_type == "mamba" else Mamba2Model
    with pytest.raises(ValueError, match=message):
        from_transformers(kind(config))


def test_another_kind_of_model_is_refused():
    from transformers import GPT2Config, GPT2Model

    with pytest.raises(ValueError, match="'gpt2' is neither mamba nor mamba2"):
        from_transformers(GPT2Model(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9)))


@pytest.mark.parametrize(
    ("weight", "bias", "past", "message"),
    [
        ((5, 4), (4,), None, "bias has shape"),
        ((4, 4), (5,), None, "weight has shape"),
        ((5, 4), (5,), (2, 2, 5), "past has shape"),
        ((5, 4), None, (1, 3, 5), "past has shape"),
    ],
)
def test_a_convolution_names_what_does_not_fit(weight, bias, past, message):
    with pytest.raises(ValueError, match=message):
        causal_conv(torch.ones(2, 6, 5), *(None if shape is None else torch.ones(shape) for shape in (weight, bias, past)))
