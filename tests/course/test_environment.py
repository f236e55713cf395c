"""The environment that the course runs in is the one that its lock, conda files and containers describe."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from coursekit.paths import REPO
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from rattler import MatchSpec, VersionSpec
from rattler import Version as CondaVersion

LOCK = REPO / "requirements" / "main.txt"

#: conda-forge's name → PyPI's, where they differ.
PYPI_NAME = {
    "faiss-gpu": "faiss-cpu",
    "playwright-python": "playwright",
    "python-kubernetes": "kubernetes",
    "pytorch": "torch",
    "ray-serve": "ray",
    "uvicorn-standard": "uvicorn",
}
#: Only where there is a GPU, or Python's own: not in the lock.
BESIDE_THE_LOCK = {"cuda-version", "mamba-ssm", "causal-conv1d", "vllm", "pip"}


def requirement_lines(path: Path) -> list[str]:
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def lock() -> dict[str, str]:
    """Canonical name → version."""
    found = {}
    for line in requirement_lines(LOCK):
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        found[canonicalize_name(requirement.name)] = pin.version
    return found


def conda_file(name: str) -> tuple[list[str], list[str]]:
    """The conda specs and the pip lines of an environment file."""
    entries = yaml.safe_load((REPO / name).read_text("utf-8"))["dependencies"]
    pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    return [entry for entry in entries if isinstance(entry, str)], pip


# --- the lock -------------------------------------------------------------------------------------------------------


def test_what_is_installed_is_what_is_locked() -> None:
    wrong = {}
    for line in requirement_lines(LOCK) + requirement_lines(LOCK.with_name("no-deps.txt")):
        requirement = Requirement(line)
        if requirement.marker is None or Marker(str(requirement.marker)).evaluate():
            installed = Version(importlib.metadata.version(requirement.name)).public
            if not requirement.specifier.contains(installed, prereleases=True):
                wrong[requirement.name] = installed
    assert not wrong, f"not as locked: {wrong}; run `make env`, or scripts/lock.py after a deliberate change"


def test_lock_holds_no_path_and_no_host_of_the_machine_it_was_made_on() -> None:
    for line in requirement_lines(LOCK) + requirement_lines(LOCK.with_name("no-deps.txt")):
        assert not re.search(r"@|://|file:|^-", line), line
        assert "+" not in line, f"{line}: a local version cannot be found on PyPI"


@pytest.mark.slow(seconds=2)
def test_lock_is_what_the_reasoned_list_needs(lock: dict[str, str]) -> None:
    sys.path.insert(0, str(REPO / "scripts"))
    try:
        from lock import lock as made
    finally:
        sys.path.remove(str(REPO / "scripts"))
    assert made() == LOCK.read_text("utf-8"), "run `.venv/bin/python scripts/lock.py`"


def test_project_needs_only_what_is_locked(lock: dict[str, str]) -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text("utf-8"))["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["dev"]
    assert {canonicalize_name(Requirement(name).name) for name in needed} <= lock.keys()


# --- conda ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["environment.yml", "docker/environment-gpu.yml"])
def test_conda_file_can_be_parsed_and_agrees_with_the_lock(name: str, lock: dict[str, str]) -> None:
    specs, pip = conda_file(name)
    for text in specs:
        spec = MatchSpec(text)
        conda = text.split()[0]
        if conda == "python":
            assert VersionSpec(str(spec.version)).matches(CondaVersion("3.11.7"))
        elif conda not in BESIDE_THE_LOCK:
            locked = lock[canonicalize_name(PYPI_NAME.get(conda, conda))]
            assert VersionSpec(str(spec.version)).matches(CondaVersion(locked)), f"{text}, but {locked} is locked"
    for line in pip:
        if not line.startswith("--"):
            requirement = Requirement(line)
            assert requirement.specifier.contains(lock[canonicalize_name(requirement.name)]), line


def test_conda_environment_has_all_that_the_reasoned_list_names() -> None:
    specs, pip = conda_file("environment.yml")
    names = {canonicalize_name(PYPI_NAME.get(spec.split()[0], spec.split()[0])) for spec in specs}
    names |= {canonicalize_name(Requirement(line).name) for line in pip if not line.startswith("--")}
    wanted = {canonicalize_name(Requirement(line).name) for line in requirement_lines(REPO / "requirements" / "main.in")}
    assert wanted <= names, wanted - names


def test_gpu_environment_adds_what_needs_a_gpu() -> None:
    main, gpu = ({spec.split()[0] for spec in conda_file(name)[0]} for name in ("environment.yml", "docker/environment-gpu.yml"))
    assert gpu - main == {"cuda-version", "faiss-gpu", "mamba-ssm", "causal-conv1d", "vllm"}
    assert main - gpu == {"faiss-cpu"}
    pytorch = next(spec for spec in conda_file("docker/environment-gpu.yml")[0] if spec.startswith("pytorch "))
    assert "cuda" in str(MatchSpec(pytorch).build)


# --- containers -----------------------------------------------------------------------------------------------------


def instructions(name: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions, with continued lines joined."""
    text = re.sub(r"^#.*\n", "", (REPO / "docker" / name).read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_image_runs_as_a_user_watches_its_health_and_copies_what_exists(name: str) -> None:
    steps = instructions(name)
    words = [word for word, _ in steps]
    assert words[0] == "FROM"
    assert not steps[0][1].endswith(":latest")
    assert ":" in steps[0][1]
    assert [value for word, value in steps if word == "USER"][-1] in ("learner", "$MAMBA_USER")
    assert "HEALTHCHECK" in words
    for word, value in steps:
        if word == "COPY":
            *sources, _target = [part for part in value.split() if not part.startswith("--")]
            assert all((REPO / source).exists() for source in sources), value
        if word in ("CMD", "HEALTHCHECK"):
            json.loads(value[value.index("[") :])
        if word == "RUN" and "apt-get install" in value:
            assert "--no-install-recommends" in value
            assert "rm -rf /var/lib/apt/lists" in value


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_image_starts_a_command_that_the_course_has(name: str) -> None:
    command = json.loads(next(value for word, value in instructions(name) if word == "CMD"))
    options = [part for part in command[command.index("learn") :] if part.startswith("--")]
    wide = {**os.environ, "COLUMNS": "200"}
    shown = subprocess.run([sys.executable, "-m", "coursekit", "learn", "--help"], capture_output=True, text=True, env=wide).stdout
    assert all(option in shown for option in options), shown


def test_compose_offers_both_images_to_this_machine_only_and_asks_for_a_token() -> None:
    compose = yaml.safe_load((REPO / "docker" / "compose.yaml").read_text("utf-8"))
    assert set(compose["services"]) == {"cpu", "gpu"}
    for service in compose["services"].values():
        assert (REPO / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert ":?" in service["environment"]["JUPYTER_TOKEN"], "a token that is not set must stop the start"
    assert compose["services"]["gpu"]["profiles"] == ["gpu"]


# --- make and CI ----------------------------------------------------------------------------------------------------


def test_make_without_a_target_lists_every_target() -> None:
    makefile = (REPO / "Makefile").read_text("utf-8")
    shown = subprocess.run(["make", "--no-print-directory"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    for target in re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split():
        assert f"make {target} " in shown, target


def test_ci_runs_make_test_without_asking() -> None:
    script = (REPO / ".ci" / "run").read_text("utf-8")
    assert os.access(REPO / ".ci" / "run", os.X_OK)
    assert "export CI=true DEBIAN_FRONTEND=noninteractive" in script
    assert script.rstrip().endswith("exec make test")


def test_kernel_has_the_environment_of_the_course() -> None:
    from hybridlab.runtime import ENVIRONMENT

    spec = json.loads((Path(sys.prefix) / "share" / "jupyter" / "kernels" / "python3" / "kernel.json").read_text("utf-8"))
    assert spec["env"] == ENVIRONMENT
    assert Path(spec["argv"][0]).samefile(sys.executable)
