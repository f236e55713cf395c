"""A reader of texts of any length: in chunks, with a carried state, in constant memory.

    reader = LongReader.load()     # the course's own weights; or a path
    reader.read("plays.txt", progress=print)
    reader.ask("amber")            # Answer(key='amber', value='42', probability=0.99…)
    reader.save_state("plays.state")

Notable:
- chunks lie on one grid, however a text comes in and wherever it is interrupted; what does not fill a chunk waits, and is saved with the
  state. So a resumed reading equals an uninterrupted one bit for bit (on one machine and one version of PyTorch);
- a question goes to a copy of the state: asking changes nothing.

The state is of a fixed size, so what it can hold is limited: about as many pairs as `needle.capacity` shows. A key that is planted twice
with two values answers with one of the two, and a pair can't be forgotten again.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hybridlab.ssm.answers import Answer, rank_answers
from hybridlab.ssm.chunk_grid import read_on_grid
from hybridlab.ssm.decay_penalty import watch_decay
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba, ModelState
from hybridlab.ssm.mixer_state import state_bytes
from hybridlab.ssm.needle import ask
from hybridlab.ssm.place import Place
from hybridlab.ssm.planted import KEYS, VOCAB, encode_some, key_token
from hybridlab.ssm.reader_state import load_place, model_hash, save_place
from hybridlab.ssm.text_source import ReadError, TextDecoder, fingerprint, to_utf8

FORMAT = "hybridlab long reader 1"
PACKAGED = Path(__file__).with_name("long_reader.safetensors")
CARD = PACKAGED.with_suffix(".md")  # data, licence, command, scores
CHUNK = 1024  # tokens
PIECE = 2**16  # bytes that are fetched from a file at once


class Progress(NamedTuple):
    """How far a reading is. `of_bytes` is None where the source is no file."""

    tokens: int
    bytes: int
    of_bytes: int | None


class Chunk(NamedTuple):
    """A chunk that was read: the number of its first token, its tokens, the state before and behind it, and how far the last layer opened
    at each token: dt · |A|, the largest of its heads. With relu steps that is exactly 0 where nothing was taken in."""

    start: int
    tokens: Int[np.ndarray, " time"]
    before: ModelState | None
    after: ModelState
    opened: Float[Tensor, " time"]


Observer = Callable[[Chunk], object]


class LongReader:
    """Reads with a Mamba over the vocabulary of `planted`.

    Raises:
        ValueError: a model over another vocabulary, or with weights that are not finite.
    """

    def __init__(self, model: Mamba) -> None:
        if model.config.vocab_size != VOCAB:
            raise ValueError(f"the model has {model.config.vocab_size} tokens, and the reader's vocabulary {VOCAB}")
        for name, weight in model.named_parameters():
            if not weight.isfinite().all():
                raise ValueError(f"{name} has values that are not finite: the model is damaged")
        self.model = model.eval()
        self.model_hash = model_hash(model)
        self._place = Place()

    @classmethod
    def load(cls, path: str | os.PathLike = PACKAGED) -> Self:
        """A reader with the weights of a file that `save_model` wrote; by default the course's own (see long_reader.md beside it).

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no model of a long reader.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no model at {path}")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        except SafetensorError as error:
            raise ValueError(f"{path} can't be read ({error}): it is cut off, damaged, or no model") from None
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path} has the format {metadata.get('format')!r}, and this version reads {FORMAT!r}")
        model = Mamba(MambaConfig(**json.loads(metadata["config"])))
        model.load_state_dict(weights | {"lm_head.weight": weights["embeddings.weight"]})
        return cls(model)

    @property
    def tokens(self) -> int:
        """Tokens read so far, those included that wait for a chunk to fill."""
        return self._place.tokens + len(self._place.pending)

    @property
    def state_bytes(self) -> int:
        """What is carried from chunk to chunk."""
        return state_bytes(self._place.state or [])

    # ------------------------------------------------------------ reading

    def read(
        self,
        source: str | os.PathLike | Iterable[str],
        *,
        encoding: str = "utf-8-sig",
        progress: Callable[[Progress], object] | None = None,
    ) -> int:
        """Read a file (a path) or pieces of text to the end, after what was read before; gives the tokens read so far.

        `progress` is called after every piece of 64 KiB (of an iterable: after each of its pieces). If it raises, or the reading is
        interrupted otherwise, the reader stands where it was: `resume` goes on with a file, `read` with what is left of an iterable.
        An empty text is no error; what turns out to be no text leaves the reader as it was. utf-8-sig is UTF-8 with or without a mark at
        the beginning.

        Raises:
            FileNotFoundError: there is no such file.
            ReadError: binary, another or an unknown encoding, with the place; an iterable of something else than str;
                or a file that was begun is not at its end.
        """
        return self._drive(self.stream(source, encoding=encoding), progress)

    def stream(
        self, source: str | os.PathLike | Iterable[str], *, encoding: str = "utf-8-sig", observe: Observer | None = None
    ) -> Iterator[Progress]:
        """As `read`, piece by piece at the caller's pace. `observe` sees each chunk as soon as it has been read."""
        if self._place.source is not None:
            raise ReadError(f"a file was interrupted at byte {self._place.source['decoder']['taken']:,}: call resume(path) first")
        with self._whole_texts_only():
            if isinstance(source, str | os.PathLike):
                yield from self._stream_file(Path(source), TextDecoder(encoding), observe)
            else:
                yield from self._stream_pieces(source, observe)

    def resume(self, path: str | os.PathLike, *, progress: Callable[[Progress], object] | None = None) -> int:
        """Go on with the file whose reading was interrupted, here or in the process that saved the state.

        Raises:
            ReadError: no file was interrupted, or this is another one.
        """
        source = self._place.source
        if source is None:
            raise ReadError("no file was interrupted: there is nothing to resume")
        if (found := fingerprint(Path(path))) != source["file"]:
            begun = source["file"]["size"]
            raise ReadError(f"{path} is another file ({found['size']:,} bytes) than the one that was begun ({begun:,} bytes)")
        with self._whole_texts_only():
            return self._drive(self._stream_file(Path(path), TextDecoder.resumed(source["decoder"]), None), progress)

    def _drive(self, pieces: Iterator[Progress], progress: Callable[[Progress], object] | None) -> int:
        for at in pieces:
            if progress is not None:
                progress(at)
        return self.tokens

    @contextmanager
    def _whole_texts_only(self) -> Iterator[None]:
        """What turns out to be no text leaves the reader as it was."""
        before = self._place
        try:
            yield
        except ReadError:
            self._place = before
            raise

    def _stream_pieces(self, source: Iterable[str], observe: Observer | None) -> Iterator[Progress]:
        taken = 0
        for piece in source:
            if not isinstance(piece, str):
                raise ReadError(f"the source gave {type(piece).__name__}, not str: give a path, or decode it")
            taken += len(data := to_utf8(piece))
            self._take(data, observe, last=False, source=None)
            yield Progress(self.tokens, taken, None)
        self._take(b"", observe, last=True, source=None)

    def _stream_file(self, path: Path, decoder: TextDecoder, observe: Observer | None) -> Iterator[Progress]:
        known = fingerprint(path)
        with path.open("rb") as file:
            file.seek(decoder.taken)
            while raw := file.read(PIECE):
                data = decoder.feed(raw, last=False)
                self._take(data, observe, last=False, source={"file": known, "decoder": decoder.state})
                yield Progress(self.tokens, decoder.taken, known["size"])
        self._take(decoder.feed(b"", last=True), observe, last=True, source=None)

    def _take(self, data: bytes, observe: Observer | None, *, last: bool, source: dict | None) -> None:
        tokens, rest = encode_some(self._place.rest + data, last=last)
        start = self._place.tokens

        def run(piece: np.ndarray, state: ModelState | None) -> ModelState:
            nonlocal start
            chunk = self._run(start, piece, state)
            start += CHUNK
            if observe is not None:
                observe(chunk)
            return chunk.after

        self._place = read_on_grid(self._place, tokens, CHUNK, run)._replace(rest=rest, source=source)

    @torch.inference_mode()
    def _run(self, start: int, tokens: np.ndarray, state: ModelState | None) -> Chunk:
        with watch_decay(self.model) as watch:
            _, after = self.model.read(torch.from_numpy(tokens)[None], state)
        return Chunk(start, tokens, state, after, watch.fading[self.model.layers[-1].mixer][0].amax(-1))

    def waiting(self) -> Chunk | None:
        """What does not fill a chunk yet, read on a copy: the place stays as it is. None where nothing waits."""
        place = self._place
        tokens = np.concatenate([place.pending, encode_some(place.rest, last=True)[0]])
        return self._run(place.tokens, tokens, place.state) if len(tokens) else None

    # ------------------------------------------------------------ asking

    def ask(self, key: str) -> Answer:
        """What was planted behind a key. Raises ValueError for a word that is no key."""
        key_token(key)
        return next(answer for answer in self.answers() if answer.key == key)

    def planted(self) -> dict[str, str]:
        """All that was planted, as far as the model can tell."""
        return {answer.key: answer.value for answer in self.answers() if answer.value is not None}

    def answers(self) -> list[Answer]:
        """The answer of each key, the most certain first. What does not fill a chunk yet counts as well, on a copy."""
        waiting = self.waiting()
        return self.answers_of(waiting.after if waiting else self._place.state)

    @torch.inference_mode()
    def answers_of(self, state: ModelState | None) -> list[Answer]:
        """The same for any state of this model; None is that of somebody who has read nothing."""
        if state is None:
            return [Answer(key, None, 1.0) for key in KEYS]
        questions = torch.tensor([[key_token(key) for key in KEYS]])
        return rank_answers(ask(self.model, state, questions)[0])

    # ------------------------------------------------------------ the state

    def save_state(self, path: str | os.PathLike) -> None:
        """Write where the reader stands, atomically; also in the middle of an interrupted file."""
        save_place(self._place, self.model_hash, path)

    def load_state(self, path: str | os.PathLike) -> None:
        """Stand where `save_state` was called, in another process too. An error leaves the reader as it was.

        Raises:
            FileNotFoundError: there is no such file.
            StateError: damaged, of another model, or of another version.
        """
        self._place = load_place(path, self.model, self.model_hash)


def save_model(model: Mamba, path: str | os.PathLike) -> None:
    """Write a model for `LongReader.load`: weights, and the config beside them."""
    weights = {name: weight for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    save_file(weights, path, {"format": FORMAT, "config": json.dumps(asdict(model.config))})
