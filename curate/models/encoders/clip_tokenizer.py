"""Texts as CLIP reads them: the byte-pair encoding of Radford et al. (ICML 2021), after Sennrich, Haddow & Birch (ACL 2016).

A text is put in lower case and cut into words; each word starts as its UTF-8 bytes, and the two neighbours that were merged
earliest in training are merged, again and again. The merges are read from a file that the export of a model wrote
(`curate.models.encoders.clip`), so that no text needs torch.
"""

from __future__ import annotations

import html
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from curate.errors import InputError, MissingExtra, UnavailableError

IntArray = npt.NDArray[np.int64]

Tokenizer = Callable[[Sequence[str]], IntArray]
"""Takes n texts to token numbers, int64 array of shape (n, context length)."""

OPEN_CLIP: Final = "open_clip:"
"""Before the name of a model whose tokenizer is open_clip's own."""

_BYTES: Final = 256
# The ends of 's, 't and so on, which are words of their own.
_CONTRACTED: Final = ("s", "t", "re", "ve", "m", "ll", "d")
# Several letters in one character, as typesetters and some alphabets have them.
_JOINED: Final = "ĲĳǄǅǆǇǈǉǊǋǌǱǲǳﬀﬁﬂﬃﬄﬆ"
# Signs that nobody sees. Some count as space, but not for training.
_UNSEEN: Final = (*range(0x09), 0x0B, *range(0x0E, 0x20), 0x7F, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
_WIDE_OR_NARROW: Final = range(0xFF01, 0xFFF0)  # as Asian keyboards give them
_STRAIGHT: Final = str.maketrans(
    {
        **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
        "\u3000": " ",
        **{sign: unicodedata.normalize("NFKC", sign) for sign in (*_JOINED, *map(chr, _WIDE_OR_NARROW))},
        "\u0149": "'n",
        "\ufb05": "\u017ft",
        **dict.fromkeys(map(chr, _UNSEEN), ""),
    }
)


def load_tokenizer(spec: str, folder: Path) -> Tokenizer:
    """A tokenizer from a file that `ClipTokenizer.save` wrote, or open_clip's own.

    Args:
        spec: The file's name, or 'open_clip:MODEL'.
        folder: Where the file is.

    Raises:
        InputError: The file cannot be read.
        UnavailableError: open_clip is not installed, or the tokenizer needs files or packages that are not there.
    """
    if not spec.startswith(OPEN_CLIP):
        return ClipTokenizer.load(folder / spec)
    model = spec.removeprefix(OPEN_CLIP)
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtra("open_clip_torch", "clip") from error
    try:
        theirs = open_clip.get_tokenizer(model)
    except Exception as error:  # of the hub's client, transformers and sentencepiece
        reason = str(error).strip().partition("\n")[0]
        raise UnavailableError(f"open_clip's tokenizer of '{model}' cannot be had: {reason}") from error
    return lambda texts: np.asarray(theirs(list(texts)).numpy(), dtype=np.int64)


@dataclass(frozen=True)
class ClipTokenizer:
    """Texts to token numbers.

    Attributes:
        byte_tokens: Token of each byte within a word, shape (256,); at the end of one it is 256 more.
        merges: Token pairs that become one, in order, shape (n, 2); the k-th becomes token 512 + k.
        start: Token that every text begins with.
        end: Token that every text ends with.
        context_length: Tokens of a text; longer ones are cut off, shorter ones filled up with 0.
    """

    byte_tokens: IntArray
    merges: IntArray
    start: int
    end: int
    context_length: int

    def __call__(self, texts: Sequence[str]) -> IntArray:
        """Tokens of n texts; int64 array of shape (n, context_length)."""
        tokens = np.zeros((len(texts), self.context_length), np.int64)
        for row, text in zip(tokens, texts, strict=True):
            inner = [token for word in _words(_clean(text)) for token in self._encode(word)]
            inner = inner[: self.context_length - 2]
            row[: len(inner) + 2] = [self.start, *inner, self.end]
        return tokens

    def save(self, path: Path) -> None:
        """Write to an .npz file."""
        numbers = np.array([self.start, self.end, self.context_length])
        np.savez_compressed(path, byte_tokens=self.byte_tokens, merges=self.merges, numbers=numbers)

    @classmethod
    def load(cls, path: Path) -> ClipTokenizer:
        """Read what `save` wrote.

        Raises:
            InputError: The file is not there or is none of ours.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                start, end, context_length = file["numbers"].tolist()
                read = cls(file["byte_tokens"], file["merges"], start, end, context_length)
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise InputError(f"the tokenizer cannot be read: {error}", where=path) from error
        whole = all(tokens.dtype.kind == "i" for tokens in (read.byte_tokens, read.merges))
        if not whole or read.byte_tokens.shape != (_BYTES,) or read.merges.shape != (len(read.merges), 2):
            raise InputError("the tokenizer cannot be read: these are not its tables", where=path)
        return read

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        return {(left, right): rank for rank, (left, right) in enumerate(self.merges.tolist())}

    def _encode(self, word: str) -> list[int]:
        tokens: list[int] = self.byte_tokens[list(word.encode("utf-8", "replace"))].tolist()
        tokens[-1] += _BYTES
        ranks, never = self._ranks, len(self._ranks)
        while len(tokens) > 1:
            rank = min(ranks.get(pair, never) for pair in pairwise(tokens))
            if rank == never:
                break
            tokens = self._merge(tokens, rank)
        return tokens

    def _merge(self, tokens: list[int], rank: int) -> list[int]:
        """Every occurrence of one pair made one token, from the left."""
        pair = tuple(self.merges[rank].tolist())
        merged: list[int] = []
        at = 0
        while at < len(tokens):
            found = tuple(tokens[at : at + 2]) == pair
            merged.append(2 * _BYTES + rank if found else tokens[at])
            at += 2 if found else 1
        return merged


def _clean(text: str) -> str:
    """As for training, but for the repair of texts in a wrong encoding ('Ã¼' for 'ü'), which nobody types."""
    text = unicodedata.normalize("NFC", text.translate(_STRAIGHT))
    return html.unescape(html.unescape(text)).lower()


def _words(text: str) -> list[str]:
    """Runs of letters, single digits, runs of anything else but space; contractions apart."""
    runs = [("".join(run), kind) for kind, run in groupby(text, _kind)]
    words: list[str] = []
    for number, (run, kind) in enumerate(runs):
        if kind == "N":
            words += run
        elif kind == "L" and number and runs[number - 1][0] == "'":
            words += _contracted(words.pop(), run)
        elif kind != "Z":
            words.append(run)
    return words


def _contracted(apostrophe: str, letters: str) -> list[str]:
    """The words of an apostrophe with letters behind it."""
    for end in _CONTRACTED:
        if letters.replace("\u017f", "s").startswith(end):  # the long s counts as one
            rest = letters[len(end) :]
            return [apostrophe + letters[: len(end)], *([rest] if rest else [])]
    return [apostrophe, letters]


def _kind(character: str) -> str:
    """L: a letter; N: a digit; Z: space; P: anything else."""
    if character.isspace():
        return "Z"
    kind = unicodedata.category(character)[0]
    return kind if kind in "LN" else "P"
