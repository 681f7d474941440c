"""CLIP's tokens: text becomes the ids that its text tower was trained on.

A text is composed (NFC), its white space becomes single blanks, its letters small; it falls into
words; the UTF-8 bytes of a word are merged pair by pair, what was learnt first first. As in the
tokenizer of transformers 5, special tokens are recognised inside the text, the padding one too.

A library could do this, but it would be installed for everybody and used by nothing else.

Sources: Sennrich et al. 2016 (byte pair encoding); Radford et al. 2019 (on bytes), 2021 (CLIP).
"""

import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

END_OF_WORD = "</w>"

_CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
# Unicode's property White_Space; Python's own `\s` has four control characters more.
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_RUN_OF_BLANKS = re.compile(f"[{_BLANKS}]+")


@dataclasses.dataclass(frozen=True)
class SpecialToken:
    text: str
    is_normalized: bool  # is looked for in the text after it was composed and made small


@dataclasses.dataclass(frozen=True)
class ClipTokenizer:
    """What `load_tokenizer` reads."""

    ids: Mapping[str, int]  # of tokens, in the letters that stand for bytes
    ranks: Mapping[tuple[str, str], int]  # of pairs that merge; the lowest goes first
    specials: tuple[SpecialToken, ...]
    start_id: int
    end_id: int
    pad_id: int
    unknown_id: int
    length: int = 77  # L, of a row of ids


def tokenize(tokenizer: ClipTokenizer, texts: Sequence[str]) -> np.ndarray:
    """Returns ids [B, L] int32: start, text, end, padding. What is too long is cut off."""
    rows = np.full((len(texts), tokenizer.length), tokenizer.pad_id, np.int32)
    for row, text in zip(rows, texts, strict=True):
        inner = itertools.islice(text_ids(tokenizer, text), tokenizer.length - 2)
        ids = [tokenizer.start_id, *inner, tokenizer.end_id]
        row[: len(ids)] = ids
    return rows


def text_ids(tokenizer: ClipTokenizer, text: str) -> Iterator[int]:
    """Yields the ids of a text, without start and end."""
    raw = [token.text for token in tokenizer.specials if not token.is_normalized]
    small = [_normalized(token.text) for token in tokenizer.specials if token.is_normalized]
    names = {_normalized(t.text) if t.is_normalized else t.text: t.text for t in tokenizer.specials}
    for piece, is_special in _split_at(text, raw):
        if is_special:
            yield tokenizer.ids[piece]
            continue
        for part, is_special in _split_at(_normalized(piece), small):
            if is_special:
                yield tokenizer.ids[names[part]]
                continue
            for word in split_words(part):
                for symbol in merge_bytes(word, tokenizer.ranks):
                    yield tokenizer.ids.get(symbol, tokenizer.unknown_id)


def split_words(text: str) -> Iterator[str]:
    """Yields contractions, runs of letters, single digits and runs of other signs."""
    start = 0
    while start < len(text):
        kind = _kind(text[start])
        end = start + 1
        if contraction := next((c for c in _CONTRACTIONS if text.startswith(c, start)), None):
            end = start + len(contraction)
        elif kind != "N":
            while end < len(text) and _kind(text[end]) == kind:
                end += 1
        if kind != "Z":
            yield text[start:end]
        start = end


def merge_bytes(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merges the bytes of a word, as letters, the last one marked."""
    symbols = [_LETTERS[byte] for byte in word.encode()]
    symbols[-1] += END_OF_WORD
    return merge_symbols(symbols, ranks)


def merge_symbols(symbols: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merges neighbours, the pair of lowest rank and leftmost first, until none is in `ranks`."""
    symbols = list(symbols)
    while len(symbols) > 1:
        pairs = enumerate(itertools.pairwise(symbols))
        rank, first = min((ranks.get(pair, math.inf), index) for index, pair in pairs)
        if rank == math.inf:
            break
        symbols[first : first + 2] = ["".join(symbols[first : first + 2])]
    return symbols


def byte_letters() -> list[str]:
    """Returns the letter that stands for each byte: itself where it is printable Latin-1."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = itertools.count(0x100)
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


_LETTERS = byte_letters()


def _kind(sign: str) -> str:
    """Returns L for a letter, N for a number, Z for white space and S for the rest."""
    if sign in _BLANKS:
        return "Z"
    category = unicodedata.category(sign)[0]
    return category if category in "LN" else "S"


def _normalized(text: str) -> str:
    text = _RUN_OF_BLANKS.sub(" ", unicodedata.normalize("NFC", text))
    # Sign by sign: `lower` of a whole text would give the last sigma of a word its own form.
    return "".join(sign.lower() for sign in text)


def _split_at(text: str, tokens: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yields the parts of a text, and whether each is one of the tokens."""
    if tokens:
        longest_first = sorted(tokens, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    else:
        parts = [text]
    for index, part in enumerate(parts):
        if part:
            yield part, index % 2 == 1
