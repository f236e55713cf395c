"""MiniTransformer is Llama and GPT-2 with their weights, begins as GPT-2 does, and goes on where a cache ends."""

import copy
import math
import pickle

import pytest
import torch
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.depth_study import gradient_norms, short_run, stream_sizes, xavier_
from hybridlab.transformer.influence import influence
from hybridlab.transformer.model import MiniTransformer, PositionTable, init_weights
from torch import nn
from torch.nn import functional as F


class Cache:
    """A growing cache: the plainest thing with the two methods that attention asks for."""

    def __init__(self):
        self.k = self.v = None

    def __len__(self):
        return 0 if self.k is None else self.k.shape[-2]

    def append(self, k, v):
        self.k = k if self.k is None else torch.cat([self.k, k], -2)
        self.v = v if self.v is None else torch.cat([self.v, v], -2)
        return self.k, self.v


def loud(model: nn.Module) -> nn.Module:
    """Weights ten times as large as at the start, so that a wrong wire can't hide in small numbers."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(10 if parameter.ndim == 2 else 1).add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


SHAPES = [
    TransformerConfig.gpt2(31, d_model=24, n_layers=2, max_time=16),
    TransformerConfig.gpt2(31, d_model=24, n_layers=2, max_time=16, norm_placement="post", positions="sinusoidal"),
    TransformerConfig.llama(31, d_model=24, n_layers=3, max_time=16),
    TransformerConfig.llama(31, d_model=24, n_heads=3, n_kv_heads=1, n_layers=1, max_time=16, tie_embeddings=False, qk_norm=True),
]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads"), [(9, 3), (4, 4), (4, 1)])
def test_the_weights_of_a_llama_load_and_give_its_logits(tied, heads, kv_heads):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 8 * heads, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": heads}
    choices = {"num_key_value_heads": kv_heads, "rope_theta": 100_000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied}
    oracle = loud(LlamaForCausalLM(LlamaConfig(vocab_size=101, **sizes, **choices)))
    config = TransformerConfig.llama(
        101, d_model=8 * heads, n_layers=3, n_heads=heads, n_kv_heads=kv_heads, d_ff=96, rope_theta=100_000.0, tie_embeddings=tied
    )
    model = MiniTransformer(config).eval()
    model.load_state_dict({name.removeprefix("model."): value for name, value in oracle.state_dict().items()})
    tokens = torch.randint(101, (2, 17))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), oracle(tokens).logits, rtol=1e-5, atol=1e-5)


def test_the_weights_of_a_gpt2_load_and_give_its_logits():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    oracle = GPT2LMHeadModel(GPT2Config(vocab_size=101, n_positions=32, n_embd=24, n_layer=3, n_head=4, activation_function="gelu"))
    loud(oracle)
    state = oracle.state_dict()
    mine = {"embed_tokens.weight": state["transformer.wte.weight"], "embed_positions.weight": state["transformer.wpe.weight"]}
    mine |= {"lm_head.weight": state["lm_head.weight"]}
    for kind in ("weight", "bias"):
        mine[f"norm.{kind}"] = state[f"transformer.ln_f.{kind}"]
        for i in range(3):
            ours, theirs = f"layers.{i}", f"transformer.h.{i}"
            mine[f"{ours}.input_layernorm.{kind}"] = state[f"{theirs}.ln_1.{kind}"]
            mine[f"{ours}.post_attention_layernorm.{kind}"] = state[f"{theirs}.ln_2.{kind}"]
            together = state[f"{theirs}.attn.c_attn.{kind}"].t()  # GPT-2 keeps its matrices transposed
            for part, value in zip("qkv", together.split(24), strict=True):
                mine[f"{ours}.self_attn.{part}_proj.{kind}"] = value
            mine[f"{ours}.self_attn.o_proj.{kind}"] = state[f"{theirs}.attn.c_proj.{kind}"].t()
            mine[f"{ours}.mlp.up_proj.{kind}"] = state[f"{theirs}.mlp.c_fc.{kind}"].t()
            mine[f"{ours}.mlp.down_proj.{kind}"] = state[f"{theirs}.mlp.c_proj.{kind}"].t()
    model = MiniTransformer(TransformerConfig.gpt2(101, d_model=24, n_layers=3, max_time=32)).eval()
    model.load_state_dict(mine)
    tokens = torch.randint(101, (2, 17))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), oracle(tokens).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", SHAPES)
def test_pieces_through_a_cache_give_the_logits_of_the_whole(config):
    torch.manual_seed(0)
    model, tokens = loud(MiniTransformer(config)), torch.randint(31, (2, 11))
    caches = [Cache() for _ in model.layers]
    pieces = [model(piece, caches=caches) for piece in tokens.split([4, 1, 1, 5], dim=1)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(tokens), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", SHAPES)
def test_no_token_moves_an_earlier_answer(config):
    torch.manual_seed(0)
    moved = influence(loud(MiniTransformer(config)), torch.randint(31, (1, 9)))
    assert (moved.triu(1) == 0).all()
    assert (moved.tril() > 0).sum() == 9 * 10 / 2


@pytest.mark.parametrize("config", SHAPES)
def test_it_begins_as_gpt2_does(config):
    torch.manual_seed(0)
    model = MiniTransformer(config)
    residual = 0.02 / math.sqrt(2 * config.n_layers)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.ndim == 1:
            assert (parameter == 1).all(), name
        else:
            wanted = residual if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
            # the standard deviation of n numbers is known to 1 / sqrt(2n); five of those
            assert parameter.std().item() == pytest.approx(wanted, rel=5 / math.sqrt(2 * parameter.numel())), name
    tokens = torch.randint(31, (4, 16))
    loss = F.cross_entropy(model(tokens).flatten(0, 1), torch.randint(31, (64,)))
    assert loss.item() == pytest.approx(math.log(31), abs=0.15)


def test_the_last_norm_is_left_out_only_with_post_norm():
    pre, post = (MiniTransformer(TransformerConfig(31, d_model=24, n_layers=1, norm_placement=p)) for p in ("pre", "post"))
    assert "norm.weight" in pre.state_dict()
    assert not any(name.startswith("norm.") for name in post.state_dict())


def test_init_weights_returns_nothing_and_follows_the_global_seed():
    config = TransformerConfig.llama(31, d_model=24)
    model = MiniTransformer(config)
    torch.manual_seed(1)
    assert init_weights(model, config) is None
    first = model.embed_tokens.weight.clone()
    torch.manual_seed(1)
    init_weights(model, config)
    assert torch.equal(model.embed_tokens.weight, first)


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_the_embedding_only_where_asked_and_stays_so(tied):
    model = MiniTransformer(TransformerConfig.llama(31, d_model=24, tie_embeddings=tied))
    copies = [model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    assert all((m.lm_head.weight is m.embed_tokens.weight) == tied for m in copies)
    model.load_state_dict(copies[1].state_dict())
    assert (model.lm_head.weight is model.embed_tokens.weight) == tied


def test_padding_tokens_move_nobody():
    model = loud(MiniTransformer(SHAPES[2]))
    tokens = torch.randint(31, (1, 8))
    changed = tokens.clone()
    changed[0, :2] = (tokens[0, :2] + 1) % 31
    padding = torch.arange(8)[None] >= 2
    torch.testing.assert_close(model(tokens, padding=padding)[:, 2:], model(changed, padding=padding)[:, 2:])


@pytest.mark.parametrize("n", [0, 2, 4])
def test_another_number_of_caches_than_layers_is_refused_before_one_is_filled(n):
    model, caches = MiniTransformer(SHAPES[2]), [Cache() for _ in range(n)]
    with pytest.raises(ValueError, match=f"{n} caches for 3 layers"):
        model(torch.randint(31, (1, 4)), caches=caches)
    assert all(len(cache) == 0 for cache in caches)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_sequence_longer_than_the_table_is_refused(positions):
    model = MiniTransformer(TransformerConfig(31, d_model=24, n_layers=1, positions=positions, max_time=8))
    model(torch.randint(31, (1, 8)))
    with pytest.raises(ValueError, match="9 positions asked for, but max_time is 8"):
        model(torch.randint(31, (1, 9)))


def test_rotary_positions_have_no_table_and_no_end():
    config = TransformerConfig.llama(31, d_model=24, max_time=8)
    assert not PositionTable(config).state_dict()
    assert MiniTransformer(config)(torch.randint(31, (1, 20))).shape == (1, 20, 31)


def test_sinusoidal_positions_are_added_to_scaled_embeddings_and_are_no_weights():
    from hybridlab.transformer.positions import sinusoidal_positions

    table = PositionTable(TransformerConfig(31, d_model=16, positions="sinusoidal", max_time=8))
    x = torch.randn(2, 3, 16)
    torch.testing.assert_close(table(x, 4), 4 * x + sinusoidal_positions(8, 16)[4:7])
    assert not table.state_dict()


def test_influence_wants_one_sequence():
    with pytest.raises(ValueError, match=r"\(2, 4\)"):
        influence(MiniTransformer(SHAPES[0]), torch.randint(31, (2, 4)))


def test_a_pre_norm_stream_grows_with_depth_and_a_post_norm_stream_does_not():
    torch.manual_seed(0)
    tokens = torch.randint(64, (4, 32))
    shapes = [TransformerConfig(64, d_model=64, n_layers=16, norm_placement=p, tie_embeddings=False) for p in ("pre", "post")]
    pre, post = (stream_sizes(xavier_(MiniTransformer(shape)), tokens) for shape in shapes)
    assert pre[0].item() == pytest.approx(1.0, abs=0.05)  # the stream begins with the embedding's size
    growth = (pre[-1] ** 2 - pre[0] ** 2) / 16
    assert 0.5 <= growth <= 1.5  # lemma 2 of 2002.04745: between l/2 and 3l/2
    torch.testing.assert_close(post[1:], torch.ones(16), rtol=1e-3, atol=1e-3)


def test_gradient_norms_are_those_of_backward():
    torch.manual_seed(0)
    model = MiniTransformer(SHAPES[2])
    tokens, targets = torch.randint(31, (2, 6)), torch.randint(31, (2, 6))
    got = gradient_norms(model, tokens, targets, "self_attn.q_proj")
    assert all(parameter.grad is None for parameter in model.parameters())
    F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
    torch.testing.assert_close(got, torch.stack([layer.self_attn.q_proj.weight.grad.norm() for layer in model.layers]))


def test_a_short_run_learns_the_same_from_the_same_seed_and_warms_up():
    shape = TransformerConfig.gpt2(8, d_model=16, n_layers=1, n_heads=2, max_time=8, tie_embeddings=False)
    text = torch.arange(200) % 8  # after each token comes the next: easy
    first, again = (short_run(shape, text, lr=1e-2, steps=30, time=8) for _ in range(2))
    assert torch.equal(first, again)
    assert first[-1] < 0.5 * first[0]
    slow = short_run(shape, text, lr=1e-2, warmup=1000, steps=30, time=8)
    assert slow[0] == first[0]
    assert slow[-1] > first[-1]
