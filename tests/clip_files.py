"""Tokenizers, networks and weights of CLIP, small and made up, for tests."""

import collections
import itertools
import json
import pathlib

from models.perception import clip_tokens

CORPUS = """
a soft rubber ball falls and bounces; the stiff flower sways in the wind. it's the cat's 1st, and
they'll say we've seen it: naïve café, straße, привет мир, 日本語 — don't!! !!! ... "quoted"
"""
START, END = "<|startoftext|>", "<|endoftext|>"
PADS = {"end": END, "bang": "!"}  # OpenAI's, OpenCLIP's
NUM_MERGES = 60

TEXTS = (
    "",
    " \t\n",
    "a soft rubber ball",
    "  A  SOFT\trubber\n\nBALL  ",
    "The cat's tail, they'll say we've seen; it's 'tis I'd I'm you're don't 'sun '''s !'s",
    "don’t “quote” – it…",
    "!", "hello!", "! !! !!!", "wow!!! really?! (yes) [no] {maybe} @#$%^&*_+-=~`|\\/<>;:",
    "12345 3.14159 1,000,000 2nd ½ ² Ⅷ ① ٣ 一二三",
    "naïve café cafe\u0301 STRASSE straße ẞ İstanbul ΣΊΣΥΦΟΣ ŉ ﬁ ß",
    "ПРИВЕТ, мир! 日本語のテキスト 한국어 العربية עברית हिन्दी ไทย",
    "👍 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ☃️ a👍b 1️⃣",
    "tab\tnl\ncr\rff\x0cvt\x0bnel\x85nbsp\xa0zwsp\u200bls\u2028em\u2003ideo\u3000mvs\u180e.",
    "control \x00 \x01\x1c\x1d\x1e\x1f \x7f \x9f bom \ufeff soft\xadhyphen \ufffd \U000e0041",
    "a<|endoftext|>b <|startoftext|> <|ENDOFTEXT|>c <|endoftext|><|endoftext|> <|end of text|>",
    "under_score a_b __init__ e.g. U.S.A. C++ C# x²+y²=z² 10€ £5 https://a.b/c?d=e&f#g",
    "&amp; &lt;b&gt; <b>html</b>",
    "ab" * 60,
    "the cat " * 60,
    "long, " * 40 + "the end!",
    "\u1e9b\u0323 \u0041\u030a \u212b \u0958 \uac00 \u1100\u1161 \U0001d11e \U0001d15e",
)  # fmt: skip


def make_tokens() -> tuple[dict[str, int], list[str]]:
    """Returns a vocabulary and its merges, learnt from `CORPUS`; both orders are CLIP's."""
    letters = sorted(clip_tokens.byte_letters(), key=lambda letter: (ord(letter) > 0xFF, letter))
    words = collections.Counter(clip_tokens.split_words(CORPUS))
    words = {tuple(clip_tokens.merge_bytes(word, {})): count for word, count in words.items()}
    merges = []
    while len(merges) < NUM_MERGES:
        pairs = collections.Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(" ".join(best))
        ranks = {tuple(merge.split()): rank for rank, merge in enumerate(merges)}
        words = {
            tuple(clip_tokens.merge_symbols(list(word), ranks)): count
            for word, count in words.items()
        }
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [merge.replace(" ", "") for merge in merges] + [START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def write_tokenizer(folder: pathlib.Path, pad: str = END, is_normalized: bool = True) -> None:
    """Writes a tokenizer's folder as checkpoints of before transformers 5 have it."""
    ids, merges = make_tokens()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    merges = "".join(f"{line}\n" for line in ["#version: 0.2", *merges])
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    flags = dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
    start, end = ({"content": text, "normalized": is_normalized} | flags for text in (START, END))
    roles = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": pad}
    settings = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(roles), encoding="utf-8")
