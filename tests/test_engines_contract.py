"""What every engine in the table promises; a new one is tested by being listed."""

import subprocess
import sys

import pytest

from facechain import bootstrap
from facechain.bootstrap import CONFIGS
from facechain.cli import show
from facechain.engines.table import ENGINES
from facechain.packs import read_packs

PACKS = read_packs(CONFIGS / "packs")
NAMES = sorted(ENGINES)


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_complete(name):
    card = ENGINES[name].card
    assert card.name == name
    assert card.title
    assert card.summary.endswith(".")
    assert card.learns in ("instantly", "by training")
    assert card.min_photos >= 1
    assert set(card.bases) <= {"sd15", "sdxl"}
    assert card.paints_canvas or not card.needs_canvas


@pytest.mark.parametrize("name", NAMES)
def test_every_pack_on_the_card_exists(name):
    assert set(ENGINES[name].card.packs) <= set(PACKS)


UNSIZED = {"clip-vit-h", "eva02-clip", "transface"}  # nobody here knows how large these are


@pytest.mark.parametrize("name", NAMES)
def test_the_card_can_tell_what_its_packs_weigh_to_the_last_file(name):
    assert {pack for pack in ENGINES[name].card.packs if not PACKS[pack].sized} <= UNSIZED


def test_reading_the_cards_imports_nothing_heavy():
    heavy = "{'torch', 'diffusers', 'transformers', 'onnxruntime', 'dlib'}"
    code = f"import sys, facechain.engines.table; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("columns", [80, 120])
def test_cards_say_what_each_engine_needs_costs_and_allows_within_the_terminal(columns, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(tmp_path))
    bootstrap.studio.cache_clear()
    known = bootstrap.studio().tools.ground("").cards
    show.cards(bootstrap.studio().engines())
    bootstrap.studio.cache_clear()
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= columns
    cards = text.strip().split("\n\n")
    assert [card.split(":")[0] for card in cards] == list(ENGINES)
    for card, engine in zip(cards, known, strict=True):
        said = " ".join(card.split())
        assert engine.summary in said
        assert all(f" {label} " in said for label in ("needs", "costs", "allows", "here"))
        assert all(pack in said for pack in engine.packs)
