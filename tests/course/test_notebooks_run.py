"""Every lesson, project and solved lab runs from top to bottom, on one thread, in the time that it states."""

import json

import pytest
from coursekit.course import load_course
from coursekit.run import PATIENCE, Job, jobs_of, run_notebook

JOBS = [
    pytest.param(job, id=job.name, marks=pytest.mark.slow(seconds=job.seconds)) for unit in load_course().units for job in jobs_of(unit)
]


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.timeout(600)
def test_notebook_runs_within_twice_its_stated_time(job: Job) -> None:
    if not job.path.is_file():
        pytest.fail(f"{job.path} is not built: run `course build`")
    outcome = run_notebook(job, threads=1)
    assert outcome.passed, f"{outcome.name}: {outcome.error}"
    assert outcome.wall <= PATIENCE * job.seconds


@pytest.mark.parametrize("job", JOBS)
def test_notebook_has_the_profile_that_papermill_sets(job: Job) -> None:
    cells = json.loads(job.path.read_text("utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert "profile" in "".join(tagged[0]["source"])
