"""Reads the folder of CLIP's tokenizer.

| file | what |
| --- | --- |
| `vocab.json`, `merges.txt` | ids of tokens, pairs that merge in their order |
| `tokenizer.json` | both in one, and special tokens; read instead of them where it is there |
| `tokenizer_config.json`, `special_tokens_map.json` | which start, end, pad; may be missing |

ModelScope's tokenizer pads with "!" (id 0), OpenAI's with the end token: only these files tell.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from models.perception.clip_tokens import END_OF_WORD, ClipTokenizer, SpecialToken
from render import files_io

_ROLES = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
_WHAT = "CLIP's tokenizer"
_LENGTH = 77
_UNLIMITED = 10**6  # what is above is how transformers say that there is no limit
_EDGES = ("lstrip", "rstrip", "single_word")


def load_tokenizer(folder: str | os.PathLike) -> ClipTokenizer:
    """Loads the tokenizer of a folder.

    Raises:
      ValueError: when a file is missing, cannot be read or asks for what CLIP does not have.
    """
    folder = pathlib.Path(folder)
    settings = _read_optional(folder / "tokenizer_config.json")
    if (folder / "tokenizer.json").is_file():
        source = folder / "tokenizer.json"
        ids, merges, listed = _read_whole(source)
    else:
        source = folder / "vocab.json"
        ids, merges, listed = _read_ids(source), _read_merges(folder / "merges.txt"), []
    if "added_tokens_decoder" in settings:  # written since transformers 4.34
        listed = _numbered(settings["added_tokens_decoder"])
    else:
        settings |= _read_optional(folder / "special_tokens_map.json")
    ids |= {token["content"]: token["id"] for token in _checked_tokens(listed, folder)}
    roles = {role: settings.get(role, default) for role, default in _ROLES.items()}
    specials = _specials(roles, listed, source)

    roles = {role: _content(roles[role]) for role in _ROLES}
    for role, text in roles.items():
        if text not in ids:
            raise ValueError(f"expected {role} {text!r} in {source}, found no such token")
    length = settings.get("model_max_length", _LENGTH)
    if type(length) not in (int, float) or length < 2:
        raise ValueError(f"expected model_max_length of 2 and more in {folder}, found {length!r}")
    return ClipTokenizer(
        ids=ids,
        ranks=_ranks(merges, ids, source),
        specials=specials,
        start_id=ids[roles["bos_token"]],
        end_id=ids[roles["eos_token"]],
        pad_id=ids[roles["pad_token"]],
        unknown_id=ids[roles["unk_token"]],
        length=_LENGTH if length > _UNLIMITED else int(length),
    )


def _read_whole(path: pathlib.Path) -> tuple[dict, list, list]:
    """Reads ids, merges and special tokens from a `tokenizer.json`."""
    whole = files_io.read_object(path, _WHAT)
    model = whole.get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != END_OF_WORD:
        raise ValueError(
            f"expected byte pairs that end words with {END_OF_WORD}, found others in {path}"
        )
    ids = _checked_ids(model.get("vocab"), path)
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise ValueError(f"expected a list of merges in {path}, found {type(merges).__name__}")
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
    return ids, _checked_pairs(enumerate(pairs, 1), path), whole.get("added_tokens", [])


def _read_ids(path: pathlib.Path) -> dict[str, int]:
    return _checked_ids(files_io.read_object(path, _WHAT), path)


def _read_merges(path: pathlib.Path) -> list[tuple[str, str]]:
    lines = enumerate(_read_text(path).splitlines(), 1)
    pairs = [(at, line.split(" ")) for at, line in lines if not line.startswith("#version")]
    return _checked_pairs(pairs, path)


def _checked_ids(ids: Any, path: pathlib.Path) -> dict[str, int]:
    if not isinstance(ids, dict) or not all(type(id) is int and id >= 0 for id in ids.values()):
        raise ValueError(f"expected tokens with their ids in {path}, found something else")
    return dict(ids)


def _checked_pairs(pairs: Iterable, path: pathlib.Path) -> list[tuple[str, str]]:
    checked = []
    for at, pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_name, pair)):
            raise ValueError(f"expected two tokens in merge {at} of {path}, found {pair!r}")
        checked.append(tuple(pair))
    return checked


def _ranks(
    merges: list[tuple[str, str]], ids: Mapping[str, int], path: pathlib.Path
) -> dict[tuple[str, str], int]:
    for first, second in merges:
        for token in (first, second, first + second):
            if token not in ids:
                raise ValueError(f"expected the merges' {token!r} in {path}, found no such token")
    return {pair: rank for rank, pair in enumerate(merges)}


def _numbered(decoder: Any) -> Any:
    """Turns tokens by their numbers, if they are, into a list of tokens."""
    try:
        return [token | {"id": int(number)} for number, token in decoder.items()]
    except (AttributeError, TypeError, ValueError):
        return decoder


def _checked_tokens(tokens: Any, folder: pathlib.Path) -> list[dict]:
    is_list = isinstance(tokens, list) and all(isinstance(token, dict) for token in tokens)
    if not is_list or not all(type(token.get("id")) is int for token in tokens):
        raise ValueError(f"expected special tokens with ids in {folder}, found {str(tokens)[:40]}")
    for token in tokens:
        _content(token)
    return tokens


def _specials(
    roles: Mapping[str, Any], listed: list[dict], path: pathlib.Path
) -> tuple[SpecialToken, ...]:
    """Returns what is recognised in texts; of two tokens of one text the last counts."""
    tokens = {token["content"]: token for token in listed}
    for role in _ROLES:
        text = _content(roles[role])
        if text not in {token["content"] for token in listed}:
            tokens[text] = roles[role] if isinstance(roles[role], dict) else {}
    for text, token in tokens.items():
        if any(token.get(edge) for edge in _EDGES):
            raise ValueError(
                f"expected special tokens without conditions, found {text!r} with, in {path}"
            )
    return tuple(
        SpecialToken(text, token.get("normalized", False)) for text, token in tokens.items()
    )


def _content(token: Any) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    if not _is_name(text):
        raise ValueError(f"expected a special token, found {token!r}")
    return text


def _is_name(text: Any) -> bool:
    return isinstance(text, str) and bool(text)


def _read_text(path: pathlib.Path) -> str:
    if not path.is_file():
        raise ValueError(f"expected {_WHAT}, found nothing at {path}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected UTF-8, found {path}: {error}") from None


def _read_optional(path: pathlib.Path) -> dict:
    return files_io.read_object(path, _WHAT) if path.is_file() else {}
