"""What reading far beyond the training stands on: what is left of a token, and reading in pieces."""

import pytest
import torch
from hybridlab.ssm.decay_penalty import fading, survival, watch_decay
from hybridlab.ssm.induction_heads import induction_mamba
from hybridlab.ssm.mamba_config import step_size
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
