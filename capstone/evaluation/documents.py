"""The real documents of the evaluation: manuals that Debian distributes as packages. Their text is fetched, never committed.

debian-policy (English, 193 pages), developers-reference (English, 114 pages), maint-guide-vi (Vietnamese, 64 pages), all under the GPL;
and for calibration alone another library, which no test question is asked of: debian-faq (English, 73 pages) and the installation guide
(Vietnamese with some English, 118 pages), under the GPL too, beside two short texts of our own in `library/`.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hybridlab.exercise import sha256

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / ".build" / "data" / "documents"
RECORD = "fetched.json"

Sources = Mapping[str, tuple[str, str]]  # document → its package, and where the package holds it
SOURCES: Sources = {
    "debian-policy.pdf": ("debian-policy", "usr/share/doc/debian-policy/policy.pdf.gz"),
    "developers-reference.pdf": ("developers-reference", "usr/share/developers-reference/developers-reference.pdf"),
    "maint-guide.vi.pdf": ("maint-guide-vi", "usr/share/doc/maint-guide-vi/maint-guide.vi.pdf"),
}


LIBRARY = FOLDER.with_name("library")
OF_LIBRARY: Sources = {
    "debian-faq.pdf": ("debian-faq", "usr/share/doc/debian/FAQ/debian-faq.en.pdf.gz"),
    "install.vi.pdf": ("installation-guide-amd64", "usr/share/doc/installation-guide-amd64/vi/install.vi.pdf.gz"),
}
OWN = Path(__file__).with_name("library")  # of invented houses: the library's texts of our own


class NotFetched(Exception):
    """The documents are not there and can't be fetched here; the text says why, and what to do."""


def fetched(folder: Path = FOLDER, sources: Sources = SOURCES) -> bool:
    """Whether every document is there, unchanged since it was fetched."""
    record = folder / RECORD
    if not record.is_file():
        return False
    known = json.loads(record.read_text("utf-8"))
    return all((folder / name).is_file() and sha256(folder / name) == known.get(name, {}).get("sha256") for name in sources)


def library() -> list[Path]:
    """The other library's documents. Raises NotFetched as `fetch` does."""
    fetch(LIBRARY, OF_LIBRARY)
    return [*(LIBRARY / name for name in OF_LIBRARY), *sorted(OWN.iterdir())]


def fetch(folder: Path = FOLDER, sources: Sources = SOURCES) -> dict[str, dict[str, str]]:
    """Fetch what is missing, and return for each document its package's version and its SHA-256.

    Raises NotFetched where this is no Debian machine, or the packages can't be had.
    """
    if not fetched(folder, sources):
        folder.mkdir(parents=True, exist_ok=True)
        versions = {package: _unpack(package, inside, folder / name) for name, (package, inside) in sources.items()}
        record = {name: {"package": package, "version": versions[package]} for name, (package, _) in sources.items()}
        for name, entry in record.items():
            entry["sha256"] = sha256(folder / name)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return json.loads((folder / RECORD).read_text("utf-8"))


def _unpack(package: str, inside: str, target: Path) -> str:
    """Download a package, take one file out of it, and return the package's version."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise NotFetched(
            f"{target.name} comes from the Debian package {package}, and this machine has no apt-get: evaluate on Debian or Ubuntu, "
            f"or put it and what else is wanted there into {target.parent} by hand, together with their {RECORD}."
        )
    with tempfile.TemporaryDirectory(prefix="documents-") as work:
        # As root apt drops to its own user, who may not write here: the sandbox is not needed for a download into a folder of ours.
        download = subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], cwd=work, capture_output=True, text=True, timeout=300
        )
        found = next(Path(work).glob("*.deb"), None)
        if download.returncode or found is None:
            raise NotFetched(
                f"apt-get could not download {package} ({download.stderr.strip()[-300:]}): run `apt-get update`, then try again."
            )
        subprocess.run(["dpkg", "-x", str(found), work], check=True, timeout=60)
        held = _within(Path(work), inside)
        target.write_bytes(gzip.decompress(held.read_bytes()) if held.suffix == ".gz" else held.read_bytes())
        shown = subprocess.run(["dpkg-deb", "-f", str(found), "Version"], capture_output=True, text=True, check=True, timeout=60)
        return shown.stdout.strip()


def _within(folder: Path, inside: str) -> Path:
    """The file at its usual place, or wherever the package has moved it, compressed or not."""
    name = Path(inside).name.removesuffix(".gz")
    places = [
        path for path in (folder / inside, *folder.rglob(name), *folder.rglob(f"{name}.gz")) if path.is_file() and not path.is_symlink()
    ]
    if not places:
        raise NotFetched(f"the package no longer holds {name}: look where it lies now, and correct SOURCES.")
    return places[0]


if __name__ == "__main__":
    for document, entry in fetch().items():
        print(f"{document}: {entry['package']} {entry['version']}, sha256 {entry['sha256'][:16]}…")
