"""Sentences and tags say the same."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facechain.errors import PhotoError
from facechain.photos.caption import GRAMMARS, describe, traits, understand
from facechain.photos.tags import TRAITS, UNKNOWN
from facechain.types import Tag

known_traits = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in TRAITS.items()})


@given(known_traits, st.sampled_from(sorted(GRAMMARS)))
def test_tags_to_sentence_to_tags(known, language):
    sentence = describe(known, GRAMMARS[language])
    assert understand(sentence, GRAMMARS[language]) == known


@pytest.mark.parametrize("language", GRAMMARS)
def test_a_grammar_has_distinct_words_for_every_value(language):
    grammar = GRAMMARS[language]
    assert {"age": tuple(grammar.subjects), **{k: tuple(v) for k, v in grammar.phrases.items()}} == dict(TRAITS)
    words = list(itertools.chain(grammar.subjects.values(), *(p.values() for p in grammar.phrases.values())))
    assert len(set(words)) == len(words)
    assert not any("," in word for word in words)


def test_doubtful_and_unknown_tags_are_not_said():
    tags = [
        Tag(name="age", value="teen", confidence=0.9),
        Tag(name="glasses", value="yes", confidence=0.3),
        Tag(name="expression", value=UNKNOWN, confidence=0.9),
    ]
    assert describe(traits(tags)) == "portrait photo of a teenager"


@pytest.mark.parametrize(
    "sentence",
    ["", "a cat", "portrait photo of a person, smiling, laughing", "portrait photo of a person, riding a horse"],
)
def test_other_sentences_are_refused(sentence):
    with pytest.raises(PhotoError):
        understand(sentence)


@pytest.mark.parametrize("known", [{"ethnicity": "any"}, {"age": "old"}, {"expression": "grumpy"}])
def test_traits_without_words_are_refused(known):
    with pytest.raises(PhotoError):
        describe(known)
