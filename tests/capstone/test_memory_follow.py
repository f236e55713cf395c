"""What reads the stream of turns is the state space model that it says, keeps what it should for as long as it should, learns, and is
compared with controls that see what they should and no more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from assistant.cues import is_question
from assistant.memory.stream import ITSELF, KINDS, MARKS, STEEP, Shape, StreamReader, mark
from hybridlab.ssm.discretize import discretize

from capstone.evaluation.memory_controls import NAMES, WINDOW, mixer
from capstone.evaluation.memory_follow import AGE, ALIKE, GROUPS, by_rule, difference, right, summary, trained
from capstone.evaluation.memory_lessons import Lesson, lesson
from capstone.evaluation.memory_probes import ABILITIES, Asked, training
from capstone.evaluation.memory_train import new_reader, scores, train
from capstone.evaluation.memory_vectors import Vectors, seen
from tests.capstone.test_memory_exam import Encoder

pytestmark = pytest.mark.slow(seconds=2)
SMALL = Shape(dim=24, heads=6, seen=16, heard=12, rank=4)


@pytest.fixture
def reader() -> StreamReader:
    """With weights of a size at which heads fire here and there."""
    torch.manual_seed(0)
    made = StreamReader(SMALL).eval()
    for part in (made.mixer.step, made.mixer.choose, made.matter.on):
        torch.nn.init.normal_(part.weight, std=0.7)
    return made


def stream(n: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(n, SMALL.dim, generator=chance), dim=-1)
    return vectors, torch.rand(n, MARKS, generator=chance).round()


@torch.no_grad()
def test_a_state_carried_over_any_split_is_the_state_of_the_whole_to_the_last_bit(reader):
    vectors, marks = stream(300)
    whole = reader.read(vectors, marks)
    for pieces in ([1] * 300, [7, 113, 180], [299, 1]):
        state = None
        for v, m in zip(vectors.split(pieces), marks.split(pieces), strict=True):
            state = reader.read(v, m, state)
        assert torch.equal(state, whole)


@torch.no_grad()
def test_the_state_is_of_one_size_however_much_was_read(reader):
    sizes = {reader.read(*stream(n)).numpy().tobytes().__len__() for n in (1, 30, 500)}
    assert sizes == {SMALL.heads * SMALL.dim * 4} == {reader.begin().numpy().tobytes().__len__()}


@torch.no_grad()
def test_a_step_is_the_zero_order_hold_of_a_system_that_forgets(reader):
    """x' = -x + u, discretised by the library's own `discretize` with each head's step."""
    vectors, marks = stream(2)
    before = reader.read(vectors[:1], marks[:1])
    after = reader.read(vectors[1:], marks[1:], before)
    steps = reader.mixer.kinds(vectors[1], marks[1]).relu()
    assert 0 < (steps > 0).sum() < SMALL.heads
    for head, dt in enumerate(steps.tolist()):
        if dt == 0:
            assert torch.equal(after[head], before[head])
        else:
            a_bar, b_bar = discretize(-torch.ones(1, 1), torch.ones(1), dt)
            torch.testing.assert_close(after[head], a_bar[0, 0] * before[head] + b_bar[0] * vectors[1])


@torch.no_grad()
def test_the_sum_over_the_turns_that_training_uses_is_the_recurrence(reader):
    vectors, marks = stream(120)
    questions, places = stream(5, seed=2)[0], torch.tensor([1, 17, 60, 119, 120])
    heard = reader.heard(questions)
    at, _, _ = reader.mixer.at(vectors, marks, heard, places)
    for row, place, one in zip(at, places.tolist(), heard, strict=True):
        torch.testing.assert_close(row, reader.mixer.of(one, reader.read(vectors[:place], marks[:place])), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_what_a_head_is_for_is_kept_until_the_next_of_its_kind_comes(reader):
    """A head that fires at turns of one mark keeps such a turn bit for bit through 5,000 others."""
    for part in (reader.mixer.see, reader.mixer.step):
        part.weight.zero_()
        part.bias.zero_()
    reader.mixer.see.weight[0, SMALL.dim + 1] = 20.0
    reader.mixer.step.weight[0, 0], reader.mixer.step.bias[0] = 10.0, -4.0
    vectors, _ = stream(5_001)
    marks = torch.zeros(5_001, MARKS)
    marks[0, 1] = 1.0
    state = reader.read(vectors, marks)
    assert torch.equal(state[0], vectors[0])
    other = reader.read(vectors[7:8], marks[:1], state)
    assert torch.equal(other[0], vectors[7])


@torch.no_grad()
def test_what_turns_gain_is_the_same_read_turn_by_turn_and_in_training(reader, tmp_path: Path):
    vectors, marks = stream(40)
    of_piece = torch.repeat_interleave(torch.arange(40), torch.tensor([1, 3] * 20))
    pieces = stream(80, seed=3)[0]
    pieces[of_piece.diff(prepend=torch.tensor([-1])) > 0] = vectors
    question = stream(1, seed=4)[0]
    heard = reader.heard(question)
    referred, _, _ = reader.mixer.at(vectors, marks, heard, torch.tensor([40]))
    base, others = reader.weights(heard)
    trained = (reader.agreement(referred, pieces, of_piece, torch.arange(40, 0, -1)[None])[0] @ others[0]) / base[0]
    torch.testing.assert_close(reader.lift(question[0], reader.read(vectors, marks), pieces, of_piece), trained, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_turn_agrees_with_what_is_referred_to_by_its_nearest_piece(reader):
    """`agreement` beside a loop over the turns."""
    of_piece = torch.repeat_interleave(torch.arange(40), torch.tensor([1, 3] * 20))
    pieces, referred = stream(80, seed=3)[0], stream(1, seed=5)[0] * 0.7
    pieces[50] = referred[0] / referred[0].norm()  # so near that it is the very turn
    found = reader.agreement(referred, pieces, of_piece, torch.arange(40, 0, -1)[None])[0]
    for turn, row in enumerate(found):
        own = pieces[of_piece == turn]
        matter = max(reader.matter(referred[0]) @ reader.matter(piece) for piece in own)
        saying = max(reader.saying(referred[0]) @ reader.saying(piece) for piece in own)
        whole = max(torch.cosine_similarity(referred[0], piece, dim=0) for piece in own)
        itself = torch.sigmoid((whole - ITSELF) / STEEP)
        torch.testing.assert_close(row, torch.stack([matter, saying, whole, -torch.tensor(41.0 - turn).log(), itself]))
    assert found[of_piece[50], -1] > 0.99


def test_a_mark_says_who_speaks_whether_it_only_asks_and_whether_a_session_begins():
    assert mark("user", "Where is my bicycle?", True).tolist() == [1, 1, 1]
    assert mark("assistant", "It is in the shed.", False).tolist() == [0, 0, 0]


# --- controls -------------------------------------------------------------------------------------------------------


def test_readers_have_as_many_parameters_whatever_they_mix_with():
    counts = [sum(p.numel() for p in StreamReader(Shape(), mixer(name, Shape(), torch.eye(384))).parameters()) for name in NAMES]
    assert max(counts) / min(counts) <= 1.02


@pytest.mark.parametrize(("name", "seen"), [("none", 0), ("window", WINDOW), ("attention", 40), ("gru", 40), ("mamba", 40)])
def test_a_control_sees_the_turns_that_it_should_and_none_after_the_question(name: str, seen: int):
    torch.manual_seed(0)
    made = mixer(name, Shape(dim=64), torch.randn(100, 64)).eval()
    with torch.no_grad():
        made.step.bias.fill_(0.05)  # no head of the Mamba's is closed
    vectors = torch.nn.functional.normalize(torch.randn(60, 64), dim=-1).requires_grad_()
    marks, heard = torch.zeros(60, MARKS), torch.randn(1, Shape().heard)
    at, _, _ = made.at(vectors, marks, heard, torch.tensor([40]))
    if seen:
        at.sum().backward()
        assert vectors.grad.abs().sum(-1).nonzero()[:, 0].tolist() == list(range(40 - seen, 40))
    else:
        assert not at.any()


def test_an_unknown_control_is_named():
    with pytest.raises(ValueError, match="lstm"):
        mixer("lstm", Shape(), torch.eye(384))


# --- learning -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lessons(tmp_path_factory) -> list[list]:
    vectors = Vectors(Encoder(), tmp_path_factory.mktemp("vectors"))
    return [[lesson(one) for one in seen(training(split, [0], 60), vectors)] for split in ("train2", "train3+")]


@pytest.mark.parametrize(("split", "place", "asking"), [("train2", 0, 0), ("train3+", 1, 1)])
def test_a_lesson_asks_what_the_talk_can_answer(lessons, split: str, place: int, asking: int):
    """`asking`: follow-ups whose answer looks like a question ("When the accountant is ill, …"). The assistant puts such turns last: they
    are left out."""
    talk, of = next(training(split, [0], 60)), lessons[place][0]
    assert len(of.turns) == len(talk.said)
    asked = [one for one in talk.asked if one.ability == "follow"]
    told = [one for one in asked if not all(is_question(talk.said[turn].text) for turn in one.answers)]
    assert [one.asked for one in of.questions] == told
    assert len(told) == len(asked) - asking > 10
    for one in of.questions:
        said = talk.said[: one.asked.place]
        asks = set(one.asks.nonzero()[:, 0].tolist())
        assert set(one.answers.tolist()) >= set(one.asked.answers) - asks
        assert not asks & set(one.answers.tolist())
        assert one.asked.referent in one.referents.tolist()
        assert {said[turn].entity.id for turn in one.referents.tolist()} == {said[one.asked.referent].entity.id}
    for said, kinds in zip(talk.said, of.kinds, strict=True):
        about, does = {said.entity.kind} if said.entity else set(), {said.event}
        assert {KINDS[k] for k in kinds.nonzero()[:, 0].tolist()} == about & {"person", "thing", "event"} | does & {"question", "option"}


@torch.no_grad()
def left(reader: StreamReader, lessons: list[Lesson]) -> tuple[float, float, float]:
    """What is left to learn, as cross entropies without noise: which turns answer, which are about what is referred to, their kinds."""
    training = reader.training
    reader.eval()
    losses = []
    for one in lessons:
        answering, referring, kinds, _ = scores(reader, one, range(len(one.questions)))
        right = [(x.answers, x.referents) for x in one.questions]
        losses.append((
            -sum(row.log_softmax(0)[of].logsumexp(0) for row, (of, _) in zip(3 * answering, right, strict=True)) / len(right),
            -sum(row.log_softmax(0)[of].logsumexp(0) for row, (_, of) in zip(7 * referring, right, strict=True)) / len(right),
            torch.nn.functional.binary_cross_entropy_with_logits(kinds[:, : len(KINDS)], one.kinds),
        ))  # fmt: skip
    reader.train(training)
    return tuple(float(sum(of)) / len(lessons) for of in zip(*losses, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_training_learns_what_answers_and_with_context_what_is_referred_to(name: str, lessons, monkeypatch: pytest.MonkeyPatch):
    """The warm start teaches kinds, then whole talks the rest. With three seeds, .19 to .24 of kinds is left after the warm start; then
    of answers .74 where nothing is seen and .10 to .65 where turns are, and of what is referred to .09 to .59, or all of it."""
    monkeypatch.setattr("capstone.evaluation.memory_train.WARM", 30)
    flat = [one for of in lessons for one in of]

    def new() -> StreamReader:
        return new_reader(name, flat, 0, Shape(dim=flat[0].turns.shape[1], rank=8))

    reader, losses, began = new(), [], []
    untrained = left(reader, flat)

    def look(step: int, loss: float) -> None:
        losses.append(loss)
        if step == 0:
            began.extend(left(reader, flat))

    train(reader, lessons, 25, 3e-3, 0, look)
    answers, referents, _ = left(reader, flat)
    assert began[2] < 0.4 * untrained[2]
    if name == "none":
        assert answers < 0.85 * began[0]
        assert referents == pytest.approx(untrained[1], rel=1e-5)
    else:
        assert answers < 0.7 * began[0]
        assert referents < 0.75 * began[1]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert not reader.training
    repeated: list[float] = []
    again = new()
    torch.rand(1)  # what was drawn before changes nothing
    train(again, lessons, 3, 3e-3, 0, lambda step, loss: repeated.append(loss))
    assert repeated[0] == losses[0]


def ways(*seeds: list[list[float]]) -> list[list[np.ndarray]]:
    """Seeds, each the hits of each talk."""
    return [[np.array(of, float) for of in seed] for seed in seeds]


def test_a_difference_draws_talks_anew():
    """Three quarters of one talk's questions, half of another's: each may be drawn twice."""
    of = difference(ways([[1, 1, 0, 1], [1, 0]]), ways(*[[[0] * 4, [0] * 2]] * 3))
    assert of == pytest.approx({"difference": 4 / 6, "low": 0.5, "high": 0.75})


def test_a_difference_is_of_the_mean_of_seeds_and_draws_them_anew():
    """Of two seeds one is right throughout and one never: either may be drawn twice."""
    of = difference(ways([[1, 1]], [[0, 0]]), ways([[0, 0]]))
    assert of == pytest.approx({"difference": 0.5, "low": 0.0, "high": 1.0})


# --- the table of ways ----------------------------------------------------------------------------------------------


def test_the_rule_lifts_turns_by_their_nearest_piece_to_the_users_last_turn_that_is_like_the_question(monkeypatch: pytest.MonkeyPatch):
    """Of turns that are like the question, the first is the user's but long ago, the fourth the assistant's, the last said afterwards."""
    like, near, pieces = [1.0, 0.0, 0.0], [0.82, 0.1, 0.4], torch.eye(3)[[0, 1, 2, 0, 1, 2, 0]]
    turns, of_piece = torch.tensor([like, [0, 1, 0], near, like, like]), torch.tensor([0, 1, 1, 2, 3, 3, 4])
    users = torch.tensor([[1.0], [1], [1], [0], [1]])
    ages = [AGE * np.log([1 + end, end - 1]) for end in (4, 5)]  # of the first and the third, up to the question and to the end
    assert [near[0] - third > 1 - first for first, third in ages] == [True, False]
    monkeypatch.setattr("capstone.evaluation.memory_follow.questions_of", lambda talk: (torch.tensor([like, [0.0, 1, 0]]), [4, 2]))
    later, earlier = by_rule(None, SimpleNamespace(turns=turns, marks=users, pieces=pieces, of_piece=of_piece))
    assert later == pytest.approx(ALIKE * np.array([0.82, 0.4, 0.82, 0.4]))
    assert earlier == pytest.approx(ALIKE * np.array([0.0, 1.0]))


def test_a_trained_reader_is_the_one_that_was_kept_and_drops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("capstone.evaluation.memory_follow.kept", lambda name, seed: tmp_path / f"{name} {seed}")
    made = {seed: StreamReader(Shape(), mixer("gru", Shape(), torch.randn(400, Shape().dim))) for seed in (0, 1)}
    for seed, one in made.items():
        torch.save(one.state_dict(), tmp_path / f"gru {seed}")
    found = trained("gru", 1)
    assert not any(part.training for part in found.modules())
    assert found.state_dict().keys() == made[1].state_dict().keys()
    assert all(torch.equal(tensor, made[1].state_dict()[name]) for name, tensor in found.state_dict().items())
    with pytest.raises(FileNotFoundError):
        trained("mamba", 1)


def asking(*asked: tuple[str, int | None]) -> SimpleNamespace:
    """A talk of 300 turns whose questions, of an ability and a distance, are each answered by turn 7."""
    made = [Asked(ability, "", "en", 300, 0, (7,), None if back is None else 300 - back) for ability, back in asked]
    return SimpleNamespace(talk=SimpleNamespace(asked=made))


def test_of_a_group_it_is_told_talk_by_talk_which_questions_have_their_answer_first():
    talks = [asking(("follow", 50), ("plain", None), ("follow", 1), ("follow", 200)), asking(("plain", None)), asking(("follow", 200))]
    ranking = [[[7], [7, 1], [2, 7], [3, 7]], [[7]], [[7]]]
    assert [of.tolist() for of in right(talks, ranking, "follow")] == [[1, 0, 0], [], [1]]
    assert [of.tolist() for of in right(talks, ranking, "follow ≥ 50")] == [[1, 0], [], [1]]
    assert [of.tolist() for of in right(talks, ranking, "plain")] == [[1], [1], []]


def test_a_way_is_the_mean_of_its_seeds_beside_the_assistant_and_the_mamba_beside_each_other_reader(monkeypatch: pytest.MonkeyPatch):
    """One question of each group: the ways differ in the follow-up at 200 turns, and the second Mamba has it fourth."""
    monkeypatch.setattr("capstone.evaluation.memory_follow.DRAWS", 50)
    groups = [*(("follow", back) for back in (2, 10, 50, 200)), *((ability, None) for ability in ABILITIES[:6])]
    first, fourth, never = [7], [1, 2, 3, 7], [1] * 5 + [7]
    talks = [asking(*groups)] * 2

    def found(far: list[int]) -> list[list[list[int]]]:
        return [[first, never, never, far, *[first] * 6]] * 2

    ranked = {"assistant": never, "two steps": first, "mamba 0": first, "mamba 1": fourth, "none 0": never, "window 0": fourth}
    made = summary(talks, {name: found(far) for name, far in ranked.items()})
    assert list(made) == ["assistant", "two steps", "mamba", "none", "window"]
    assert all(set(GROUPS) <= of.keys() for of in made.values())
    shares = {name: [made[name]["follow 200"][k] for k in ("R@1", "R@5")] for name in made}
    assert shares == {"assistant": [0, 0], "two steps": [1, 1], "mamba": [0.5, 1], "none": [0, 0], "window": [0, 1]}
    assert made["assistant"]["follow"] == {"n": 8, "R@1": 0.25, "R@5": 0.25}
    assert made["mamba"]["follow ≥ 50"] == pytest.approx({"n": 4, "R@1": 0.25, "R@5": 0.5, "difference": 0.25, "low": 0.0, "high": 0.5})
    assert made["two steps"]["follow 200"]["difference"] == 1
    assert {name for of in made.values() for name in of.keys() - set(GROUPS)} == {"over none", "over window"}
    assert made["mamba"]["over window"].keys() == {"follow", "follow ≥ 50"}
    assert made["mamba"]["over window"]["follow"] == pytest.approx({"difference": 0.125, "low": 0.0, "high": 0.25})
    assert made["mamba"]["over none"]["follow ≥ 50"]["difference"] == 0.25
