"""Time of each notebook, run by papermill as `course run all` does: one after the other, a process each."""

from coursekit.course import load_course
from coursekit.run import jobs_of, run_notebook

from tests.benchmarks.record import say, write


def main() -> None:
    samples, peaks, failed = {}, {}, []
    for unit in load_course().units:
        for job in jobs_of(unit):
            outcome = run_notebook(job)
            say(f"{job.name}: {outcome.status}, {outcome.wall:.0f} s")
            if not outcome.passed:
                failed.append(f"{job.name}: {outcome.error}")
                continue
            samples[f"{job.name} (states {job.seconds} s)"] = [outcome.wall]
            peaks[job.name] = round(outcome.peak)
    if failed:
        raise RuntimeError("these notebooks failed, so nothing was written: " + "; ".join(failed))
    write("notebooks", unit="seconds on the clock", samples=samples, peak_mib=peaks)
