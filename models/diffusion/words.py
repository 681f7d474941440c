"""What the small prior understands of language: words that name a band of stiffness.

It was taught with numbers, so a word is but a number. The bands are those of the clips' world,
where things are 0.4 to 0.6 m tall, weigh 1000 kg/m^3 and are looked at for half a second: there a
"soft" stalk sways lazily and a "stiff" one quivers. The materials that such words bring to mind may
have another Young's modulus in a book.
"""

import re

BANDS = {"soft": 4.6, "rubber": 5.1, "stiff": 5.6}  # log10 of pascals, the middles
_WORDS = {
    "soft": ("soft", "floppy", "limp", "jelly", "gelatin", "pudding", "sponge", "tender", "wobbly"),
    "rubber": ("rubber", "rubbery", "elastic", "springy", "bouncy", "firm", "medium", "flexible"),
    "stiff": ("stiff", "hard", "rigid", "tough", "solid", "wood", "wooden", "woody", "taut"),
}
VOCABULARY = {word: band for band, words in _WORDS.items() for word in words}


def band_of(prompt: str) -> str:
    """Returns the band that a prompt names.

    Raises:
      ValueError: in one line, when it names none or several.
    """
    found = {VOCABULARY[word]: word for word in _words(prompt) if word in VOCABULARY}
    if len(found) == 1:
        return next(iter(found))
    known = ", ".join(sorted(VOCABULARY))
    others = f"{' and '.join(sorted(found.values()))}" if found else "none of them"
    raise ValueError(f"expected a prompt with one of {known}; found {others} in {prompt!r}")


def log10_modulus_of(prompt: str) -> float:
    """Returns the stiffness that a prompt stands for, log10 of pascals; raises as `band_of`."""
    return BANDS[band_of(prompt)]


def _words(prompt: str) -> list[str]:
    return re.findall(r"[a-z]+", prompt.lower())
