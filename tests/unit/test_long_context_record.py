"""The record of the induction-heads test is of the weights that are shipped, can be measured again, and is what the page shows."""

import importlib.util
import json
from pathlib import Path

import pytest
from hybridlab.ssm.induction_heads import PAPER_LENGTHS, Score, score_stream
from hybridlab.ssm.long_context_models import trained
from hybridlab.ssm.long_context_record import fingerprint, record, recorded

REPO = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("measure_induction", REPO / "scripts" / "measure_induction.py")
measure_induction = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measure_induction)


def test_every_model_was_asked_as_many_texts_as_planned_with_the_weights_that_are_shipped():
    for name, plan in measure_induction.PLAN.items():
        asked = {score.length: score.asked for score in recorded(name)}
        wanted = {length: next((texts for texts, to in plan if length <= to), 0) for length in PAPER_LENGTHS}
        assert asked == {length: texts for length, texts in wanted.items() if texts}, f"{name}: run scripts/measure_induction.py"


def test_relu_steps_answer_99_of_100_at_every_length_to_the_papers_longest():
    scores = recorded("induction relu")
    assert [score.length for score in scores] == list(PAPER_LENGTHS)
    assert min(score.accuracy for score in scores) >= 0.99


def test_scores_of_other_weights_are_not_on_record(tmp_path):
    path = tmp_path / "record.json"
    assert recorded("induction relu", path) == []
    record("induction relu", [Score(128, 3, 4, 0.25), Score(64, 4, 4, 0.124)], path)
    record("induction rotary", [Score(64, 1, 4, 2.0)], path)
    assert recorded("induction relu", path) == [Score(64, 4, 4, 0.12), Score(128, 3, 4, 0.25)]
    kept = json.loads(path.read_text("utf-8"))
    assert kept["induction rotary"]["weights"] == fingerprint("induction rotary") != fingerprint("induction relu")
    kept["induction relu"]["weights"] = fingerprint("induction softplus")
    path.write_text(json.dumps(kept), "utf-8")
    assert recorded("induction relu", path) == []
    assert len(recorded("induction rotary", path)) == 1


def test_the_page_shows_what_is_on_record(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(measure_induction.PAGE.read_text("utf-8"), "utf-8")
    measure_induction.write(page)
    assert page.read_text("utf-8") == measure_induction.PAGE.read_text("utf-8"), "run scripts/measure_induction.py"
    assert measure_induction.table().count("\n") == 2 + len(PAPER_LENGTHS)


def test_a_score_is_shown_with_wilsons_interval():
    """Wilson, 1927: of n right of n the lower end is n / (n + z²)."""
    assert measure_induction.in_words(Score(2**18, 256, 256, 1.0)) == f"256 / 256 ({25600 / (256 + 1.959964**2):.1f} – 100.0 %)"
    assert measure_induction.in_words(Score(2**18, 5, 10, 1.0)) == "5 / 10 (23.7 – 76.3 %)"


@pytest.mark.slow(seconds=4)
def test_a_round_on_record_can_be_measured_again():
    """The first rounds of one length, with their own texts; another processor's sums may tip a text or two."""
    on_record = next(score for score in recorded("induction softplus") if score.length == 512)
    rounds = [score_stream(trained("induction softplus"), 512, asked=64, seed=1000 * 512 + have) for have in range(0, 256, 64)]
    assert on_record.asked == 256
    assert abs(sum(one.correct for one in rounds) - on_record.correct) <= 2
