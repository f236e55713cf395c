"""What reading far beyond the training stands on: what is left of a token, reading in pieces, and the models that are shipped."""

import pytest
import torch
from hybridlab.ssm.decay_penalty import fading, survival, watch_decay
from hybridlab.ssm.induction_heads import induction_mamba, score_stream, score_whole
from hybridlab.ssm.long_context_models import MODELS, trained
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.mamba_config import step_size
from hybridlab.ssm.needle import handbook, score_needles
from hybridlab.ssm.streaming import read_stream


@pytest.mark.parametrize("kind", ["softplus", "relu"])
def test_fading_is_the_mixers_own_step_times_a(kind):
    z, A_log = torch.randn(3, 7, 2) * 5, torch.randn(2)
    torch.testing.assert_close(fading(z, A_log, kind), step_size(z, kind) * A_log.exp())
    with pytest.raises(ValueError, match="'gelu'"):
        fading(z, A_log, "gelu")


def test_survival_is_what_a_scan_keeps_of_each_token():
    """Through the model itself: a state of ones put in behind token t has shrunk by so much at the end."""
    torch.manual_seed(0)
    model = induction_mamba("softplus", seed=0)
    tokens = torch.randint(15, (1, 40))
    with torch.no_grad():
        with watch_decay(model) as watch:
            model.read(tokens)
        left = survival(watch.fading[model.layers[0].mixer])
        for t in (0, 13, 38):
            _, state = model.read(tokens[:, : t + 1])
            _, end = model.read(tokens[:, t + 1 :], state)
            state[0].memory.add_(1.0)
            _, changed = model.read(tokens[:, t + 1 :], state)
            kept = changed[0].memory - end[0].memory
            torch.testing.assert_close(kept, left[:, t, :, None, None].expand_as(kept), rtol=1e-4, atol=1e-5)


def test_a_stream_is_read_as_the_whole_text_is_and_takes_pieces_one_by_one():
    model, text, handed = induction_mamba("relu", seed=0), torch.randint(16, (2, 300)), []

    def pieces():
        for piece in text.split([100, 0, 1, 199], 1):
            handed.append(piece.shape[1])
            yield piece

    source = pieces()
    assert not handed
    last, state = read_stream(model, source)
    with torch.no_grad():
        read, whole = model.read(text)
    torch.testing.assert_close(last, read[:, -1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state[1].memory, whole[1].memory, rtol=1e-4, atol=1e-5)
    assert handed == [100, 0, 1, 199]
    with pytest.raises(ValueError, match="no token"):
        read_stream(model, iter([text[:, :0]]))


def test_every_shipped_model_loads_and_an_unknown_one_is_refused():
    for name in MODELS:
        model = trained(name)
        assert not model.training
        assert model.lm_head.weight is (model.embeddings if hasattr(model, "embeddings") else model.embed_tokens).weight
    with pytest.raises(ValueError, match="no model 'needle'"):
        trained("needle")


@pytest.mark.slow(seconds=25)
def test_shipped_models_hold_or_fade_as_the_lesson_says():
    assert score_stream(trained("induction relu"), 2**15, asked=16, seed=3).correct == 16
    assert score_stream(trained("induction softplus"), 256, asked=100, seed=3).correct >= 97
    assert score_stream(trained("induction softplus"), 2**14, asked=16, seed=3).correct <= 8
    assert score_whole(trained("induction rotary"), 256, asked=64, seed=3).correct >= 60
    assert score_whole(trained("induction rotary"), 2048, asked=16, seed=3).correct <= 8
    assert score_whole(trained("induction sinusoidal"), 256, asked=64, seed=3).correct >= 62  # guessing: 4
    assert score_whole(trained("induction sinusoidal"), 2048, asked=16, seed=3).correct <= 8


@pytest.mark.slow(seconds=15)
def test_of_two_models_trained_alike_the_one_with_relu_steps_finds_needles_at_65536_tokens():
    relu, softplus = LongReader.load().model, trained("needle softplus")
    near = score_needles(softplus, 256, handbook(), texts=8, seed=3)
    assert near.correct >= 58  # of 64: it has learned the task
    assert score_needles(relu, 2**16, handbook(), texts=2, seed=3).correct >= 15
    assert score_needles(softplus, 2**16, handbook(), texts=2, seed=3).correct <= 8
