"""The proof of a week: stubs fail, right answers pass, each catalogued mistake is refused by its own name, mutants die."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field

from coursekit.catalogue import read_catalogue
from coursekit.course import Exercise, Week
from coursekit.mutate import Mutant, mutants
from coursekit.runner import Runner
from coursekit.stub import is_given, reference_source, stub

KILLED = 0.95
MISTAKES = 3


@dataclass
class Proof:
    """What was seen of one exercise. `faults` is empty when everything holds."""

    exercise: Exercise
    faults: list[str] = field(default_factory=list)
    mistakes: int = 0
    killed: int = 0
    alive: list[str] = field(default_factory=list)
    equivalent: int = 0
    seconds: float = 0.0

    @property
    def share(self) -> float:
        return self.killed / max(1, self.killed + len(self.alive))


def prove_exercise(exercise: Exercise, runner: Runner, *, with_mutants: bool = True) -> Proof:
    proof = Proof(exercise)
    reference = reference_source(exercise.symbol)
    name = exercise.symbol.rpartition(".")[2]
    if runner.check(exercise, stub(reference)).passed:
        proof.faults.append("the stub passes")
    verdict = runner.check(exercise, reference)
    proof.seconds = verdict.seconds
    if not verdict.passed:
        proof.faults.append(f"the reference is refused: {verdict.text}")
    answers = [a for a in read_catalogue(exercise.week.source / "mistakes.py") if a.name == name]
    if not any(a.kind == "correct" for a in answers):
        proof.faults.append("there is no correct answer in another style")
    if sum(a.kind == "mistake" for a in answers) < MISTAKES:
        proof.faults.append(f"fewer than {MISTAKES} mistakes are catalogued")
    for answer in answers:
        verdict = runner.check(exercise, answer.source)
        if answer.kind == "correct" and not verdict.passed:
            proof.faults.append(f"a correct answer ({answer.title}) is refused: {verdict.text}")
        elif answer.kind != "correct" and verdict.code != answer.code:
            proof.faults.append(f"{answer} is answered with: {verdict.text}")
        proof.mistakes += answer.kind != "correct"
    if with_mutants:
        kill_mutants(exercise, runner, reference, proof)
    return proof


def kill_mutants(exercise: Exercise, runner: Runner, reference: str, proof: Proof) -> None:
    listed = equivalents(exercise)
    for mutant in learner_mutants(reference):
        if mutant.label in listed:
            proof.equivalent += 1
        elif runner.check(exercise, mutant.source, seconds=5.0).passed:
            proof.alive.append(mutant.label)
        else:
            proof.killed += 1
    unknown = set(listed) - {mutant.label for mutant in learner_mutants(reference)}
    if unknown:
        proof.faults.append(f"equivalent.toml lists mutants that do not exist: {', '.join(sorted(unknown))}")
    if proof.share < KILLED:
        proof.faults.append(f"{len(proof.alive)} mutants of {proof.killed + len(proof.alive)} live: " + "; ".join(proof.alive))


def learner_mutants(reference: str) -> list[Mutant]:
    """Mutants of what the learner writes: those in methods marked `# given` are left out."""
    return [mutant for mutant in mutants(reference) if not is_given(reference, mutant.line)]


def equivalents(exercise: Exercise) -> dict[str, str]:
    path = exercise.week.source / "equivalent.toml"
    listed = tomllib.loads(path.read_text("utf-8")) if path.is_file() else {}
    return listed.get(exercise.id, {})


def prove_week(week: Week, *, with_mutants: bool = True) -> Iterator[Proof]:
    """Prove every exercise of a week, one after the other."""
    with Runner(week, folder=week.folder) as runner:
        for exercise in week.exercises:
            yield prove_exercise(exercise, runner, with_mutants=with_mutants)
