"""CLIP's tokens: kept ids of transformers, rules that every text obeys, refused folders."""

import json

import numpy as np
import pytest
from clip_files import END, PADS, START, TEXTS, make_tokens, write_tokenizer
from golden_clip import read_golden

from models.perception.clip_tokens import byte_letters, merge_bytes, split_words, tokenize
from models.perception.clip_tokens_io import load_tokenizer


@pytest.fixture
def folder(tmp_path):
    write_tokenizer(tmp_path)
    return tmp_path


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_whole(folder, **changes):
    """Replaces the folder's files by one `tokenizer.json`, merges as pairs."""
    ids, merges = make_tokens()
    for path in folder.iterdir():
        path.unlink()
    model = {
        "type": "BPE",
        "end_of_word_suffix": "</w>",
        "vocab": ids,
        "merges": [merge.split(" ") for merge in merges],
    }
    tokens = [{"id": ids[text], "content": text, "normalized": False} for text in (START, END)]
    whole = {"model": model, "added_tokens": tokens} | changes
    (folder / "tokenizer.json").write_text(json.dumps(whole))


@pytest.mark.parametrize("name", PADS)
def test_ids_are_those_of_transformers(tmp_path, name):
    write_tokenizer(tmp_path, PADS[name])
    found = tokenize(load_tokenizer(tmp_path), TEXTS)
    np.testing.assert_array_equal(found, read_golden()[f"ids_{name}"])


def test_one_file_says_what_several_do(folder):
    expected = tokenize(load_tokenizer(folder), TEXTS[:9])
    write_whole(folder)
    np.testing.assert_array_equal(tokenize(load_tokenizer(folder), TEXTS[:9]), expected)


def test_rows_start_end_and_are_cut_and_padded(folder):
    tokenizer = load_tokenizer(folder)
    empty, short, long = tokenize(tokenizer, ["", "ball", "ball " * 100])
    start, end = tokenizer.start_id, tokenizer.end_id
    np.testing.assert_array_equal(empty, [start] + 76 * [end])
    assert short[0] == start and list(short).index(end) < 6
    assert long.dtype == np.int32 and (long[0], long[76]) == (start, end) and end not in long[:76]
    assert tokenize(tokenizer, []).shape == (0, 77)


def test_letters_stand_for_bytes_one_to_one():
    letters = byte_letters()
    assert len(set(letters)) == 256
    assert not any(letter.isspace() for letter in letters)
    # "Ġ" for a blank and "Ċ" for a line feed are known from GPT-2's vocabulary.
    assert (letters[0x20], letters[0x0A], letters[0x41], letters[0xE9]) == ("Ġ", "Ċ", "A", "é")


def test_words_leave_out_white_space_alone():
    text = "it's 12 o'clock!  x² —ça va?\u3000don't"
    words = "it 's 1 2 o ' clock ! x ² — ça va ? don 't".split()
    assert list(split_words(text)) == words


def test_pairs_merge_by_rank_and_from_the_left():
    ranks = {("a", "a"): 0, ("aa", "a</w>"): 1, ("b", "aa"): 2}
    assert merge_bytes("baaa", ranks) == ["b", "aaa</w>"]
    assert merge_bytes("baaaa", ranks) == ["baa", "a", "a</w>"]
    assert merge_bytes("é", ranks) == ["Ã", "©</w>"]


def test_case_spacing_and_composition_do_not_matter(folder):
    tokenizer = load_tokenizer(folder)
    plain, other = tokenize(tokenizer, ["a soft café", "\tA  Soft\nCAFE\u0301 "])
    np.testing.assert_array_equal(plain, other)


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("vocab.json", None, r"expected CLIP's tokenizer, found nothing at .*vocab\.json"),
        ("merges.txt", None, r"expected CLIP's tokenizer, found nothing at .*merges\.txt"),
        ("vocab.json", '{"a": 1', r"expected JSON, found .* of .*vocab\.json"),
        ("vocab.json", '{"a": "b"}', r"expected tokens with their ids in .*vocab\.json"),
        ("merges.txt", "a b\na\n", r"expected two tokens in merge 2 of .*merges\.txt, found \['a'"),
        ("merges.txt", "a ü\n", r"expected the merges' 'aü' in .*vocab\.json, found no such token"),
        ("merges.txt", b"\xff\xfe", r"expected UTF-8, found .*merges\.txt"),
        (
            "special_tokens_map.json",
            '{"pad_token": "<pad>"}',
            r"expected pad_token '<pad>' in .*vocab\.json, found no such token",
        ),
        ("special_tokens_map.json", '{"pad_token": 3}', r"expected a special token, found 3"),
        (
            "special_tokens_map.json",
            '{"pad_token": {"content": "!", "lstrip": true}}',
            r"expected special tokens without conditions, found '!'",
        ),
        (
            "tokenizer_config.json",
            '{"model_max_length": "long"}',
            r"expected model_max_length of 2 and more in .*, found 'long'",
        ),
        (
            "tokenizer_config.json",
            '{"added_tokens_decoder": {"x": 3}}',
            r"expected special tokens with ids in .*, found {'x': 3}",
        ),
        (
            "tokenizer.json",
            "{}",
            r"expected byte pairs that end words with </w>, found others in .*",
        ),
    ],
)
def test_broken_folders_are_refused_in_one_line(folder, file, content, message):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as error:
        load_tokenizer(folder)
    assert "\n" not in str(error.value)


def test_special_tokens_of_settings_count_before_the_older_file(folder):
    ids, _ = make_tokens()
    decoder = {ids[text]: {"content": text, "normalized": False} for text in ("!", START, END)}
    rewrite(folder / "tokenizer_config.json", added_tokens_decoder=decoder, pad_token="!")
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_id == ids["!"]
    row = tokenize(tokenizer, ["!"])[0]
    np.testing.assert_array_equal(row[:4], [ids[START], ids["!"], ids[END], ids["!"]])


def test_lengths_come_from_the_settings(folder):
    rewrite(folder / "tokenizer_config.json", model_max_length=12)
    assert tokenize(load_tokenizer(folder), ["ball"]).shape == (1, 12)
    rewrite(folder / "tokenizer_config.json", model_max_length=10**30)
    assert load_tokenizer(folder).length == 77
