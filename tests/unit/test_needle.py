"""Needles: what a haystack holds, and that a mimetic layer can look up before it has learned."""

import pytest
import torch
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mimetic import mimetic_init
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.needle import ask, capacity, haystack, needle_model, score_needles
from hybridlab.ssm.planted import ABSENT, FIRST_KEY, FIRST_VALUE, VALUES, encode

POOL = encode("The quick brown fox, aged 12, jumps over 5 lazy dogs in 1603; and so on. " * 20)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("length", "pairs"), [(16, 8), (2, 1), (64, 32), (200, 3)])
def test_each_planted_key_has_its_value_behind_it_and_the_others_are_absent(length, pairs):
    hay = haystack(50, length, pairs, POOL, generator=generator())
    assert hay.tokens.shape == (50, length)
    for text, questions, answers in zip(*(part.tolist() for part in hay), strict=True):
        assert len(set(questions)) == 2 * pairs
        for key, value in zip(questions[:pairs], answers[:pairs], strict=True):
            assert text.count(key) == 1
            assert text[text.index(key) + 1] == value
            assert FIRST_VALUE <= value < ABSENT
        for key, value in zip(questions[pairs:], answers[pairs:], strict=True):
            assert key not in text
            assert value == ABSENT


def test_the_filler_is_the_pool():
    plain = haystack(20, 100, 1, POOL, generator=generator())
    assert POOL.is_contiguous()
    for text in plain.tokens:
        key = int((text >= FIRST_KEY).logical_and(text < FIRST_VALUE).nonzero()[0])
        rest = text[:key].tolist()
        assert any(rest == POOL[i : i + key].tolist() for i in range(len(POOL) - key))


@pytest.mark.parametrize(
    ("length", "pairs", "message"), [(10, 6, "6 pairs"), (99, 33, "33 pairs"), (99, 0, "0 pairs"), (9999, 2, "the pool has")]
)
def test_what_does_not_fit_is_refused(length, pairs, message):
    with pytest.raises(ValueError, match=message):
        haystack(1, length, pairs, POOL, generator=generator())


def test_a_mimetic_layer_finds_what_stood_behind_a_token_like_the_last():
    """Before any training: of 16 tokens' successors, what the layer says resembles the right one most."""
    torch.manual_seed(0)
    mixer = Mamba2Mixer(MambaConfig(1, d_model=128, d_head=64, d_state=128, step="relu"))
    mixer.in_proj.weight.data[-mixer.config.n_heads :] = 0  # every token is written, with the same step
    mixer.dt_bias.data.fill_(0.02)
    right = {False: 0, True: 0}
    for mimetic in right:
        if mimetic:
            mimetic_init(mixer)
        with torch.no_grad():
            for _ in range(50):
                text = torch.randn(1, 32, 128)
                asked = int(torch.randint(16, ())) * 2
                out, _ = mixer(torch.cat([text, text[:, asked : asked + 1]], 1))
                right[mimetic] += int((text[0, 1::2] @ out[0, -1]).argmax()) == asked // 2
    assert right[False] < 12  # guessing: 3
    assert right[True] > 20


def test_a_convolution_that_sees_one_token_is_refused():
    with pytest.raises(ValueError, match="d_conv=1"):
        mimetic_init(Mamba2Mixer(MambaConfig(1, d_model=64, d_conv=1)))


def test_a_question_is_put_to_a_copy_of_its_own_texts_state():
    model = needle_model("relu", seed=0)
    hay = haystack(3, 40, 2, POOL, generator=generator())
    with torch.no_grad():
        _, state = model(hay.tokens)
        got = ask(model, state, hay.questions)
        for text in range(3):
            for question in range(4):
                alone = [MixerState(*(part[text : text + 1] for part in layer)) for layer in state]
                expected = model(hay.questions[text : text + 1, question : question + 1], alone)[0][0, 0, FIRST_VALUE:]
                torch.testing.assert_close(got[text, question], expected, rtol=1e-4, atol=1e-5)
    assert got.shape == (3, 4, len(VALUES) + 1)


def test_a_score_is_the_same_in_pieces_and_says_of_how_many():
    model = needle_model("relu", seed=0)
    scores = [score_needles(model, 300, POOL, texts=5, pairs=3, seed=1, piece=piece) for piece in (300, 64)]
    for score in scores:
        assert (score.length, score.pairs, score.planted, score.absent) == (300, 3, 15, 15)
    assert scores[0].correct == scores[1].correct
    assert [score.planted for score in capacity(model, POOL, [1, 2], length=32, texts=4, seed=0)] == [4, 8]
    assert score_needles(model, 5000, POOL, texts=1, pairs=3, seed=1).length == 5000  # longer than the pool
