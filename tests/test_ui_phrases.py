"""Every phrase the pages use is there in both languages, with the same places to fill, and none is left over."""

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

from facechain import bootstrap
from facechain.photos.quality import ADVICE
from facechain.photos.tags import TRAITS
from facechain.types import Call, JobState, Reason
from facechain.ui import names_zh
from facechain.ui.phrase_table import PHRASES
from facechain.ui.phrases import Words

UI = Path(__file__).resolve().parent.parent / "facechain" / "ui"


def _literals():
    """Every string in the sources; for f-strings, patterns with `.+` for what is filled in."""
    for path in UI.rglob("*.py"):
        if path.name in ("phrase_table.py", "names_zh.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.escape(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (re.escape(v.value) if isinstance(v, ast.Constant) else "[a-z_]+" for v in node.values)
                yield "".join(map(str, parts))


def _asked():
    """Keys in calls of the words: w("…"), including both arms of w(a if b else c)."""
    for path in UI.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("w", "desk.w", "shop.w", "self.w"):
                for part in ast.walk(node.args[0]) if node.args else ():
                    if isinstance(part, ast.Constant) and isinstance(part.value, str) and "." in part.value:
                        yield path.name, part.value, {named.arg for named in node.keywords}


def test_every_phrase_used_is_in_the_table():
    missing = {(where, key) for where, key, _ in _asked() if key not in PHRASES and not key.endswith(".")}
    assert not missing


def test_no_phrase_is_left_over():
    used = re.compile("|".join({f"(?:{literal})" for literal in _literals() if "." in literal and len(literal) < 60}))
    assert not [key for key in PHRASES if not used.fullmatch(key)]


@pytest.mark.parametrize("key", sorted(PHRASES))
def test_both_languages_have_the_same_places(key):
    english, chinese = ({name for _, name, _, _ in Formatter().parse(text) if name} for text in PHRASES[key])
    assert chinese <= english
    assert all(text.strip() for text in PHRASES[key])


def test_what_is_filled_in_is_what_the_phrase_asks_for():
    for where, key, given in _asked():
        if key in PHRASES:
            places = {name for _, name, _, _ in Formatter().parse(PHRASES[key][0]) if name}
            assert places <= given, f"{where}: {key} asks for {places - given}"


def test_one_and_many():
    assert Words()("people.enrolled", name="Ada", photos=1, held_out=0).startswith("Ada is here: 1 photo to")
    assert Words()("people.enrolled", name="Ada", photos=2, held_out=0).startswith("Ada is here: 2 photos to")


def test_chinese_names_are_of_what_there_is():
    """A new style or model needs none: its English name is shown until somebody translates it."""
    studio = bootstrap.studio()
    assert set(names_zh.STYLES) <= {style.id for style in studio.styles()}
    assert set(names_zh.GROUPS) <= {style.group for style in studio.styles()}
    assert set(names_zh.ENGINE_SUMMARIES) <= {offer.card.name for offer in studio.engines()}
    assert set(names_zh.ROLES) <= {pack.role for pack in studio.tools.packs.list()}
    assert Words(language="zh").style_title("new_one", "New one") == "New one"


def test_every_answer_of_the_stages_has_words():
    assert set(TRAITS) == set(names_zh.TAGS)
    assert {value for values in TRAITS.values() for value in values} <= set(names_zh.VALUES)
    assert set(ADVICE) == set(names_zh.ADVICE) == set(Reason)
    for state in JobState:
        assert f"state.{state.value}" in PHRASES
    for call in Call:
        assert f"call.{call.name.lower()}" in PHRASES
    for reason in Reason:
        assert f"reason.{reason.value}" in PHRASES
