"""The induction-heads test: what the texts hold, that a stream is the same text, and that it is learned."""

import pytest
import torch
from hybridlab.ssm import induction_heads
from hybridlab.ssm.decay_penalty import watch_decay
from hybridlab.ssm.induction_heads import (
    PAPER,
    PAPER_LENGTHS,
    extrapolation,
    induction_mamba,
    induction_transformer,
    score_stream,
    score_whole,
    texts_for,
    train_induction,
)
from hybridlab.ssm.induction_text import IGNORED, SIGN, induction_batch, stream
from hybridlab.ssm.mamba_config import MambaConfig, step_size
from hybridlab.ssm.mamba_model import Mamba


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("length", "extra"), [(3, 0), (5, 1), (9, 3), (16, 0), (64, 3)])
def test_every_sign_but_the_last_has_the_answer_behind_it(length, extra):
    tokens, wanted = induction_batch(500, length, extra=extra, generator=generator())
    for text, answers in zip(tokens.tolist(), wanted.tolist(), strict=True):
        signs = [t for t in range(length) if text[t] == SIGN]
        assert len(signs) == 2 + extra
        assert signs[-1] == length - 1
        behind = {text[t + 1] for t in signs[:-1]}
        assert len(behind) == 1
        asked = [t for t in range(length) if answers[t] != IGNORED]
        assert asked == signs[1:]
        assert {answers[t] for t in asked} == behind


def test_the_sign_stands_anywhere_and_the_answer_is_any_token():
    tokens, wanted = induction_batch(4000, 12, generator=generator())
    first = (tokens == SIGN).int().argmax(1)
    assert torch.bincount(first, minlength=10)[:10].min() > 300  # 400 each
    assert torch.bincount(wanted[:, -1], minlength=SIGN).min() > 180  # 267 each


def test_a_text_too_short_is_refused():
    with pytest.raises(ValueError, match="a text of 8 tokens can't hold 3 extra questions: at least 9"):
        induction_batch(1, 8, extra=3, generator=generator())


def test_a_stream_has_one_sign_its_answer_and_a_sign_at_the_end():
    answers, pieces = stream(300, 40, seed=3, piece=7)
    tokens = torch.cat(list(pieces), 1)
    assert tokens.shape == (300, 40)
    signs = (tokens == SIGN).nonzero()[:, 1].view(300, 2)
    assert (signs[:, 1] == 39).all()
    assert signs[:, 0].unique().tolist() == list(range(38))
    assert torch.equal(tokens.gather(1, signs[:, :1] + 1)[:, 0], answers)


def test_the_papers_table_has_a_value_for_each_length():
    assert PAPER_LENGTHS[0] == 64
    assert PAPER_LENGTHS[-1] == 1_048_576
    assert all(len(row) == len(PAPER_LENGTHS) for row in PAPER.values())
    for row in PAPER.values():
        assert all(value is None or 0 <= value <= 100 for value in row)


def test_a_score_counts_right_answers(monkeypatch):
    """A model that knows: the token behind the first sign, carried as its state from piece to piece."""

    class Knows:
        def read(self, tokens, state):
            seen = torch.full((len(tokens),), -1) if state is None else state[:, 0]
            before = torch.full((len(tokens),), -1) if state is None else state[:, 1]
            for token in tokens.unbind(1):
                seen = torch.where((before == SIGN) & (seen < 0), token, seen)
                before = token
            return torch.nn.functional.one_hot(seen.clamp(0), SIGN).float()[:, None], torch.stack([seen, before], 1)

        def lm_head(self, x):
            return x

    score = score_stream(Knows(), 1000, asked=50, seed=1)
    assert (score.length, score.correct, score.asked, score.accuracy) == (1000, 50, 50, 1.0)


def test_a_stream_in_pieces_scores_as_whole():
    model = induction_mamba("relu", seed=0)
    logits = []
    for piece in (37, 300):
        _, pieces = stream(4, 300, seed=5, piece=300)
        state = None
        with torch.inference_mode():
            for part in next(pieces).split(piece, 1):
                read, state = model.read(part, state)
            logits.append(model.lm_head(read[:, -1]).clone())
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def test_transformers_are_asked_the_same():
    for positions in ("rotary", "sinusoidal"):
        score = score_whole(induction_transformer(positions, seed=0), 128, asked=30, seed=1)
        assert score.asked == 30
        assert score.correct < 15  # it knows nothing yet
        assert next(train_induction(induction_transformer(positions, seed=0), 2, seed=0))[0] == 16


def test_the_longer_the_fewer_texts():
    assert [texts_for(length, tokens=2**19) for length in (64, 2**13, 2**16, 2**18, 2**20)] == [64, 64, 8, 4, 4]
    scores = list(extrapolation(induction_mamba("relu", seed=0), 256, seed=0, tokens=256, least=2))
    assert [(score.length, score.asked) for score in scores] == [(64, 4), (128, 2), (256, 2)]


def test_the_decay_is_what_the_layers_do():
    model = induction_mamba("softplus", seed=0)
    tokens, _ = induction_batch(2, 20, generator=generator())
    with watch_decay(model) as watch:
        model(tokens)
    first = model.layers[0]
    z = first.mixer.in_proj(first.norm(model.embeddings(tokens)))[..., -first.mixer.config.n_heads :]
    expected = step_size(z + first.mixer.dt_bias, "softplus") * first.mixer.A_log.exp()
    torch.testing.assert_close(watch.fading[first.mixer], expected)
    assert len(watch.fading) == 2
    total = sum(part.mean() for part in watch.fading.values())
    torch.testing.assert_close(watch.price(margin=0.0), total)
    higher = [step_size(z + 2, "softplus") * mixer.A_log.exp() for mixer, z in watch.z.items()]
    torch.testing.assert_close(watch.price(margin=2.0), sum(part.mean() for part in higher))
    watch.price().backward()
    assert first.mixer.A_log.grad.abs().min() > 0
    assert not first.mixer.in_proj._forward_hooks
    with pytest.raises(ValueError, match="version=1"), watch_decay(Mamba(MambaConfig(16, d_model=16, version=1))):
        pass


@pytest.mark.slow(seconds=30)
def test_relu_steps_learn_at_256_and_hold_at_4096():
    model = induction_mamba("relu", seed=0)
    lengths = [length for length, _ in train_induction(model, 300, seed=0)]
    assert lengths[0] == 16
    assert lengths[-1] == induction_heads.TRAINED
    assert score_stream(model, 4096, asked=32, seed=1).correct >= 31
