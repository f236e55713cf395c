"""Speculative decoding changes the time, not the text: picked tokens are the same, drawn ones have the same distribution."""

import pytest
import torch
from hybridlab.llm.speculative import ModelDraft, PromptLookup, Sampling, accept_draft, speculative_generate
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.generation import generate
from hybridlab.transformer.model import MiniTransformer


def tiny(seed: int, vocab: int = 11, layers: int = 2) -> MiniTransformer:
    torch.manual_seed(seed)
    made = MiniTransformer(TransformerConfig.llama(vocab, d_model=32, n_layers=layers, n_heads=4, max_time=96)).double().eval()
    for weight in made.parameters():
        weight.data.mul_(4)
    return made


@pytest.fixture(scope="module")
def model() -> MiniTransformer:
    return tiny(0)


def drafts(model: MiniTransformer):
    like = tiny(0)
    like.lm_head.weight.data += 0.3 * torch.randn(like.lm_head.weight.shape, generator=torch.Generator().manual_seed(2))
    return {
        "itself": ModelDraft(model, 99, Sampling()),
        "a relative": ModelDraft(like, 99, Sampling()),
        "a stranger": ModelDraft(tiny(7), 99, Sampling()),
        "prompt lookup": PromptLookup(11),
    }


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("name", ["itself", "a relative", "a stranger", "prompt lookup"])
@pytest.mark.parametrize("n_draft", [1, 4, 7])
def test_greedy_text_is_the_models_own_whoever_drafts(model, name: str, n_draft: int):
    draft = drafts(model)[name]
    for prompt in ([3], [1, 2, 3, 4, 1, 2, 3]):
        for n_new in (1, 2, 30):
            result = speculative_generate(model, draft, prompt, n_new, n_draft=n_draft)
            assert result.tokens == generate(model, torch.tensor([prompt]), n_new, temperature=0)[0, len(prompt) :].tolist()
            assert result.kept + result.passes == n_new  # each pass brings what it keeps, and one token more
            assert result.kept <= result.drafted
    if name == "itself":
        assert result.acceptance == 1.0
        assert result.passes == -(-30 // (n_draft + 1))


@pytest.mark.slow(seconds=2)
def test_the_nearer_the_draft_the_more_is_kept(model):
    kept = {name: speculative_generate(model, draft, [5, 6], 40).acceptance for name, draft in drafts(model).items()}
    assert kept["a stranger"] < kept["a relative"] < kept["itself"] == 1.0


@pytest.mark.slow(seconds=5)
@pytest.mark.parametrize("settings", [{"temperature": 1.0}, {"temperature": 0.7, "top_k": 4}, {"temperature": 1.3, "top_p": 0.8}])
def test_drawn_tokens_have_the_models_distribution_at_every_place(settings: dict):
    """The second new token, against its exact distribution, by chi-square; the draft is another model."""
    model, draft = tiny(0, vocab=5), tiny(7, vocab=5)
    for each in (model, draft):
        each.lm_head.weight.data *= 0.25  # flatter, so that there is something to draw
    sampling, generator, n = Sampling(**settings), torch.Generator().manual_seed(0), 500
    counts = torch.zeros(5, dtype=torch.float64)
    for _ in range(n):
        writer = ModelDraft(draft, 16, sampling, generator)
        counts[speculative_generate(model, writer, [1, 2], 2, n_draft=1, sampling=sampling, generator=generator).tokens[1]] += 1
    with torch.no_grad():
        first = sampling.distribution(model(torch.tensor([[1, 2]]))[:, -1])[0]
        behind = sampling.distribution(model(torch.tensor([[1, 2, x] for x in range(5)]))[:, -1])
    expected = n * first @ behind
    possible = expected > 1e-9
    assert not counts[~possible].any()
    chi = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi < 22  # 4 degrees of freedom: chance exceeds this once in 5,000 times


def test_a_kept_draft_and_its_cache_go_on_from_any_text(model):
    """The draft's own cache is cut back to what the texts have in common; its guesses are those of a fresh one."""
    old = ModelDraft(model, 99, Sampling())
    for text in ([1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 9, 4], [1], [8, 8, 8, 8, 8], [8, 8, 8]):
        fresh = ModelDraft(model, 99, Sampling())
        for mine, theirs in zip(old.propose(text, 4), fresh.propose(text, 4), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_prompt_lookup_takes_what_followed_the_last_and_longest_match():
    lookup = PromptLookup(99)
    assert lookup.propose([1, 2, 3, 4, 9, 3, 4, 7, 2, 3, 4], 3)[0].tolist() == [9, 3, 4]  # 2 3 4 beats the nearer 3 4
    assert lookup.propose([5, 6, 5, 7, 5], 2)[0].tolist() == [7, 5]
    assert lookup.propose([1, 2, 3], 3)[0].tolist() == []
    tokens, probabilities = lookup.propose([4, 4], 3)
    assert tokens.tolist() == [4]
    assert probabilities.shape == (1, 99)


def test_what_does_not_fit_together_is_refused(model):
    with pytest.raises(ValueError, match="the draft's vocabulary has 5 tokens and the model's 11: a draft has to use the same tokenizer"):
        speculative_generate(model, ModelDraft(tiny(1, vocab=5), 30, Sampling()), [1], 3)
    with pytest.raises(ValueError, match="prompt is empty"):
        speculative_generate(model, PromptLookup(11), [], 3)
    with pytest.raises(ValueError, match="n_draft is 0"):
        speculative_generate(model, PromptLookup(11), [1], 3, n_draft=0)
    with pytest.raises(ValueError, match="a draft of 1 tokens needs 2 rows of target_probs, got 1"):
        accept_draft(torch.tensor([1]), torch.ones(1, 5), torch.ones(1, 5))
