"""Many at once give what each gives alone: picked and drawn tokens, with room enough and with too little."""

import pytest
import torch
from hybridlab.llm.continuous_batching import ContinuousBatching
from hybridlab.llm.memory_study import POOL, Buddies, memory_use, sample_requests
from hybridlab.llm.request import OutOfBlocks, Request, StepPlan
from hybridlab.llm.scheduler import plan_step
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.generation import generate
from hybridlab.transformer.model import MiniTransformer


@pytest.fixture(scope="module")
def model() -> MiniTransformer:
    torch.manual_seed(0)
    made = MiniTransformer(TransformerConfig.llama(23, d_model=32, n_layers=2, n_heads=4, max_time=64)).double().eval()
    for weight in made.parameters():  # large enough that the choice of a token is never a near tie
        weight.data.mul_(4)
    return made


def requests(n: int = 9, **settings) -> list[Request]:
    draw = torch.Generator().manual_seed(1)
    made = []
    for number in range(n):
        length, new = (int(x) for x in torch.randint(1, 20, (2,), generator=draw))
        made.append(Request(torch.randint(23, (length,), generator=draw).tolist(), new, seed=number, **settings))
    return made


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.8, "top_k": 5}, {"temperature": 1.2, "top_p": 0.8}])
@pytest.mark.parametrize(("n_blocks", "max_batch"), [(100, 9), (100, 2), (10, 9), (10, 1)])  # 10 blocks: somebody has to go back
def test_together_gives_what_month_1s_generate_gives_one_by_one(model, settings: dict, n_blocks: int, max_batch: int):
    asked = requests(**settings)
    served = ContinuousBatching(model, n_blocks=n_blocks, block_size=4, max_batch=max_batch).serve(asked)
    for request, answer in zip(asked, served.answers, strict=True):
        generator = torch.Generator().manual_seed(request.seed)
        alone = generate(
            model, torch.tensor([request.prompt]), request.max_new_tokens, generator=generator, **{"temperature": 0.0, **settings}
        )
        assert answer == alone[0, len(request.prompt) :].tolist()
    assert max(step.decoded for step in served.steps) <= max_batch
    assert max(step.blocks_in_use for step in served.steps) <= n_blocks
    assert (sum(step.preempted for step in served.steps) > 0) == (n_blocks == 10 and max_batch == 9)


def test_all_blocks_are_free_again_and_the_same_server_answers_again(model):
    server = ContinuousBatching(model, n_blocks=12, block_size=4, max_batch=4)
    first = server.serve(requests())
    assert server.cache.blocks_in_use == 0
    assert server.serve(requests()).answers == first.answers


def test_an_answer_ends_before_its_stop_token(model):
    whole = ContinuousBatching(model, n_blocks=20).serve([Request([3, 4], 12)]).answers[0]
    stop = whole[5]
    served = ContinuousBatching(model, n_blocks=20).serve([Request([3, 4], 12, stop=stop)])
    assert served.answers[0] == whole[: whole.index(stop)]
    assert len(served.steps) == whole.index(stop) + 1


def test_no_place_stays_empty_while_somebody_waits(model):
    served = ContinuousBatching(model, n_blocks=200, max_batch=3).serve([Request([1], n) for n in (2, 9, 2, 9, 2, 2)])
    admitted = 0
    for step in served.steps:
        if admitted < 6:
            assert step.decoded + step.prefilled == 3  # a prompt has one token here
        admitted += step.prefilled
    assert admitted == 6


def test_what_can_never_run_is_refused_at_once(model):
    server = ContinuousBatching(model, n_blocks=3, block_size=4)
    with pytest.raises(OutOfBlocks, match="request 1 needs room for 14 tokens, and the whole cache holds 3 blocks of 4"):
        server.serve([Request([1], 3), Request([1] * 10, 5)])
    with pytest.raises(OutOfBlocks, match="needs room for 12 tokens"):
        server.serve([Request([1] * 12, 1)])
    with pytest.raises(ValueError, match="would reach 70 tokens, and the model's max_time is 64"):
        ContinuousBatching(model, n_blocks=99).serve([Request([1] * 61, 10)])
    with pytest.raises(ValueError, match="max_batch is 0"):
        ContinuousBatching(model, n_blocks=9, max_batch=0)
    with pytest.raises(ValueError, match="prompt is empty"):
        Request([], 3)
    with pytest.raises(ValueError, match="max_new_tokens is 0"):
        Request([1], 0)


def test_a_request_that_just_fits_runs_alone(model):
    server = ContinuousBatching(model, n_blocks=3, block_size=4)
    assert len(server.serve([Request([1] * 5, 8)] * 2).answers[1]) == 8  # 12 tokens in the cache, and never a second sequence


def test_the_plan_of_the_worked_example():
    assert plan_step([8, 5], [7, 2], n_free=3, block_size=4, max_batch=8) == StepPlan(1, 0)
    assert plan_step([8, 5], [8, 2], n_free=3, block_size=4, max_batch=8) == StepPlan(0, 0)
    assert plan_step([8, 5, 4], [1], n_free=0, block_size=4, max_batch=8) == StepPlan(0, 1)


# --- the paper's figures in small -----------------------------------------------------------------------------------


def test_buddies_never_overlap_and_come_together_again():
    pieces, held = Buddies(700), {}
    draw = torch.Generator().manual_seed(0)
    for _ in range(300):
        size = int(torch.randint(1, 90, (), generator=draw))
        if (place := pieces.take(size)) is not None:
            assert all(place + size <= p or p + s <= place for p, s in held.items())
            held[place] = size
        if len(held) > 12:
            pieces.give_back(*held.popitem())
    while held:
        pieces.give_back(*held.popitem())
    assert sum(size * len(places) for size, places in pieces.free.items()) == 700
    assert [size for size, places in pieces.free.items() if places] == [4, 8, 16, 32, 128, 512]  # 700 in binary


def test_the_shares_are_those_of_pagedattentions_figure_2_and_13():
    """Figure 2: 20.4, 26.8, 38.2 and 96.3 % of the cache hold tokens; figure 13a: 7.0, 9.8, 13.6 and 30.4 requests at once."""
    asked = sample_requests(300)
    for policy, tokens, batch in (("max", 0.204, 7.0), ("pow2", 0.268, 9.81), ("oracle", 0.382, 13.62), ("paged", 0.963, 30.42)):
        use = memory_use(policy, asked)
        assert use.tokens + use.reserved + use.never_used + use.outside == pytest.approx(1)
        assert use.tokens == pytest.approx(tokens, abs=0.05)
        assert use.batch == pytest.approx(batch, rel=0.35)
    assert memory_use("max", asked).batch == POOL // 2048
