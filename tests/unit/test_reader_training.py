"""What the long reader's model is trained on, what it pays for, and that the weights that come with the course are those of the card."""

import hashlib

import pytest
import torch
from hybridlab.data.parallel import load_parallel
from hybridlab.ssm.decay_penalty import MARGIN, watch_decay
from hybridlab.ssm.long_reader import CARD, PACKAGED, LongReader
from hybridlab.ssm.needle import needle_model, score_needles
from hybridlab.ssm.planted import ABSENT, FIRST_KEY, FIRST_VALUE, VALUES, encode
from hybridlab.ssm.reader_training import LONE, STRAY, filler, nearly_open, noise, plays, python_text, train_reader


def test_in_the_filler_no_value_stands_behind_a_key():
    pool = filler([noise(200_000, seed=1), torch.full((100_000,), 65)], seed=2)
    keys, values = (pool >= FIRST_KEY) & (pool < FIRST_VALUE), pool >= FIRST_VALUE
    assert not (keys[:-1] & (pool[1:] >= FIRST_KEY)).any()
    assert keys.float().mean() == pytest.approx(LONE, rel=0.1)
    assert values[200_000:].float().mean() == pytest.approx(STRAY, rel=0.1)
    assert pool.max() < ABSENT
    assert torch.equal(pool, filler([noise(200_000, seed=1), torch.full((100_000,), 65)], seed=2))


def test_noise_is_all_bytes_and_values_and_no_key():
    drawn = noise(100_000, seed=0)
    assert len(drawn.unique()) == 356
    assert not ((drawn >= FIRST_KEY) & (drawn < FIRST_VALUE)).any()


def test_plays_and_sources_to_measure_on_are_others_than_those_to_train_on():
    trained, unseen = plays()
    assert len(unseen) > 500_000
    assert len(trained) > 300_000
    modules, packages = python_text(50_000, packages=False), python_text(700_000)
    assert len(modules) == 50_000
    assert len(packages) == 700_000
    assert modules[10_000:10_200] not in packages
    with pytest.raises(ValueError, match="has only"):
        python_text(10**9)


def test_a_step_that_is_closed_by_less_than_the_margin_pays_and_one_that_is_closed_by_more_does_not():
    model = needle_model("relu", seed=0, d_state=4)
    tokens = encode("the king said no more of it")[None]
    with torch.no_grad():
        for layer in model.layers:
            layer.mixer.in_proj.weight[-layer.mixer.config.n_heads :] = 0
            layer.mixer.dt_bias.fill_(-MARGIN - 0.01)
    with watch_decay(model) as watch:
        model.read(tokens)
    prices = nearly_open(watch)
    assert [price.item() for price in prices] == [0, 0]
    model.layers[0].mixer.dt_bias.data.fill_(-MARGIN + 0.5)
    model.layers[0].mixer.A_log.data.zero_()
    with watch_decay(model) as watch:
        model.read(tokens)
    prices = nearly_open(watch)
    assert [price.item() for price in prices] == pytest.approx([1.0, 0])  # 0.5 · (1 + |A|), |A| = 1
    prices[0].backward()
    assert (model.layers[0].mixer.dt_bias.grad > 0).all()
    noted = list(map(id, watch.z.values()))
    model.read(tokens)
    assert list(map(id, watch.z.values())) == noted  # behind the block nothing is noted


@pytest.mark.slow(seconds=5)
def test_training_is_the_same_for_a_seed_and_begins_to_learn():
    pool = filler([noise(20_000, seed=0)], seed=0)

    def run():
        model = needle_model("relu", seed=0, d_state=16)
        return [share for *_, share in train_reader(model, pool, 25, seed=0)], model.layers[1].mixer.in_proj.weight

    (shares, weight), (again, same) = run(), run()
    assert shares == again
    assert torch.equal(weight, same)
    assert sum(shares[-5:]) > sum(shares[:5])


def test_every_step_of_the_layer_that_finds_begins_open():
    """A relu step that begins shut has no gradient: two or three values of a hundred never opened theirs."""
    for seed in range(3):
        model = needle_model("relu", seed=seed)
        keys, values = torch.meshgrid(torch.arange(FIRST_KEY, FIRST_VALUE, 8), torch.arange(FIRST_VALUE, ABSENT), indexing="ij")
        with torch.no_grad(), watch_decay(model) as watch:
            model.read(torch.stack([keys, values], -1).flatten(0, 1))
        assert (watch.fading[model.layers[-1].mixer] > 0).all()


def test_softplus_steps_are_trained_without_the_price(monkeypatch):
    """They can't close, whatever it costs; relu steps pay."""
    pool = filler([noise(20_000, seed=0)], seed=0)

    def bias_behind_two_steps(step):
        model = needle_model(step, seed=0, d_state=4)
        list(train_reader(model, pool, 2, seed=0, tokens=512))
        return model.layers[1].mixer.dt_bias.detach()

    cheap = {step: bias_behind_two_steps(step) for step in ("softplus", "relu")}
    monkeypatch.setattr("hybridlab.ssm.reader_training.PRICE", 1e4)
    assert torch.equal(bias_behind_two_steps("softplus"), cheap["softplus"])
    assert not torch.equal(bias_behind_two_steps("relu"), cheap["relu"])


# ---------------------------------------------------------------- the weights that come with the course


def test_the_card_has_the_hash_of_the_weights():
    assert hashlib.sha256(PACKAGED.read_bytes()).hexdigest() in CARD.read_text("utf-8")
    assert PACKAGED.stat().st_size < 1_000_000


@pytest.mark.slow(seconds=5)
def test_every_pair_is_taken_in():
    """In a line of their own, each of 100 values behind each of 64 keys; nothing else in these texts opens the last layer."""
    model = LongReader.load().model
    before, behind = encode("and went to the river.\n"), encode("\nIt was late.")
    left = set()
    for key in range(FIRST_KEY, FIRST_VALUE):
        texts = torch.stack([torch.cat([before, torch.tensor([key, value]), behind]) for value in range(FIRST_VALUE, ABSENT)])
        with torch.inference_mode(), watch_decay(model) as watch:
            model.read(texts)
        opened = (watch.fading[model.layers[-1].mixer] > 0).any(-1)
        assert not opened[:, [i for i in range(texts.shape[1]) if i != len(before) + 1]].any()
        left |= {VALUES[i] for i in (~opened[:, len(before) + 1]).nonzero()[:, 0].tolist()}
    assert not left


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize("kind", ["plays", "python", "vietnamese"])
def test_pairs_are_found_in_a_text_of_65536_tokens_that_training_never_saw(kind):
    """Of the last not even the kind. In tables of numbers, full of values without a key, the model does worse: see its card."""
    pool = {
        "plays": lambda: plays()[1],
        "python": lambda: encode(python_text(200_000)),
        "vietnamese": lambda: encode("\n".join(sentence for part in load_parallel() for sentence in part.vietnamese)),
    }[kind]()
    score = score_needles(LongReader.load().model, 65_536, pool, texts=2, pairs=8, seed=5)
    assert score.correct >= 15
    assert score.absent_known == 16
