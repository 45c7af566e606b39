"""The small language of symptoms: what it takes, what it refuses, and the three numbers it gives."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leptonami.readers.patterns import MAX_WAYS, MAX_WIDTH, compile_pattern
from leptonami.validation import Wrong


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a+)+b", "no bound"),
        ("fixed.*text", "no bound"),
        ("fixed.{3,}text", "upper bound"),
        ("(?:a{1,5}){1,5}fixed", "varies itself"),
        ("(?:a|b){1,5}fixed", "varies itself"),
        ("(?:a?){2}fixed", "varies itself"),
        ("fixed(?=text)", "look-around"),
        ("fixed(?i)", "look-around"),
        (r"(fixed)\1", "not supported"),
        ("fixed$", "not supported"),
        ("fixed(", "closing parenthesis"),
        ("fixed)", "too many"),
        ("fixed[ab", "closing bracket"),
        ("*fixed", "nothing to repeat"),
        ("fixed{x}", "repetitions"),
        ("fixed{5,2}", "not a range"),
        ("fixed??", "after a quantifier"),
        ("fixed\nline", "line break"),
        ("f" * 301, "301 characters"),
        ("fixed.{0,2000}", "more than 1000"),
        (".{0,300}fixed.{0,300}", "too many ways"),
        ("[a-z]{1,5}", "fixed text"),
        ("fixed text|.{1,3}", "fixed text"),
        ("fixed[z-a]", "not a regular expression"),
        ("((((((((fixed))))))))", "nested"),
        ("fixed\\", "not supported"),
        ("", "fixed text"),
    ],
)
def test_what_could_take_long_or_finds_everything_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(Wrong) as error:
        compile_pattern(pattern)
    assert why in str(error.value), str(error.value)


@pytest.mark.parametrize(
    ("pattern", "width", "ways", "literals"),
    [
        ("fixed text", 10, 1, ("fixed text",)),
        (r"a\.b\[c\]", 6, 1, ("a.b[c]",)),
        ("one or two: (?:first one|second two)", 22, 2, ("one or two: ",)),
        ("(?:first one|second two).{0,20}x", 31, 42, ("first one", "second two")),
        (r"Xid \(PCI:[^)]{1,40}\): 79\b", 54, 40, ("Xid (PCI:",)),
        ("lines?: []x]{2}", 9, 2, ("line",)),
        ("(?:optional part)?the rest", 21, 2, ("the rest",)),
        ("(?:abcd){2}", 8, 1, ("abcdabcd",)),
        ("x{3}word", 7, 1, ("xxxword",)),
    ],
)
def test_the_numbers_of_a_pattern(pattern: str, width: int, ways: int, literals: tuple[str, ...]) -> None:
    read = compile_pattern(pattern)
    assert (read.width, read.ways, read.literals) == (width, ways, literals)


ATOMS = st.sampled_from([*"abcXYZ .", r"\d", r"\S", "[a-f]", "[^q]", "needle", "(?:one|other)", "(?:ab)"])
QUANTIFIERS = st.sampled_from(["", "", "?", "{2}", "{0,3}", "{1,9}", "*", "+"])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(ATOMS, QUANTIFIERS), max_size=8), st.text("abcXYZ .needlother12", max_size=60))
def test_a_match_is_never_wider_than_said_and_holds_a_literal(parts: list[tuple[str, str]], text: str) -> None:
    pattern = "".join(atom + quantifier for atom, quantifier in parts)
    try:
        read = compile_pattern(pattern)
    except Wrong:
        return
    assert read.width <= MAX_WIDTH
    assert read.ways <= MAX_WAYS
    # The words of the pattern, so that it has a chance to match.
    for each in (text, text + "needle" + text, text.join(re.findall("[a-zA-Z ]+", pattern))):
        for found in re.finditer(pattern, each):
            assert len(found[0]) <= read.width
            assert any(literal in found[0] for literal in read.literals)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"ab.*+?{}[]()|\^$,0123456789:<P>=!dwSb ", max_size=30))
def test_any_pattern_is_either_taken_or_refused_in_words(pattern: str) -> None:
    try:
        read = compile_pattern(pattern)
    except Wrong as error:
        assert str(error)
    else:
        assert read.regex.pattern == pattern


def test_the_worst_pattern_allowed_ends_soon() -> None:
    read = compile_pattern(r"word[a-z ]{0,220}[a-z ]{0,220}!")
    assert read.ways == 221 * 221
    started = time.process_time()
    assert read.regex.search("word " * 60) is None
    assert time.process_time() - started < 5
