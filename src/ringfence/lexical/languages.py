"""In which language a text is written."""

from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

SAMPLE_CHARS = 4000
"""So much of a text is looked at."""

SURE = 0.4
"""From this probability on a document's language is taken for known. Below it, words are not stemmed."""

_CODE_LETTERS = 2
_DEAD = frozenset({"la"})  # names and terms of science would pass for Latin


def detect(text: str) -> tuple[str | None, float]:
    """The likeliest language (ISO 639-1) and its probability; None where there is not one letter of any."""
    sample = text[:SAMPLE_CHARS]
    if not any(character.isalpha() for character in sample):
        return None, 0.0
    language, probability = _identifier().classify(sample)
    return str(language), float(probability)


def warm_up() -> None:
    """Load the model, which takes half a second, before somebody waits for it."""
    _identifier()


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(identifier.labels) - _DEAD
    identifier.set_languages(label for label in known if len(label) == _CODE_LETTERS)
    return identifier
