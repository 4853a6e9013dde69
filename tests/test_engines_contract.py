"""What every engine in the table promises; a new one is tested by being listed."""

import subprocess
import sys

import pytest

from facechain.bootstrap import CONFIGS
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


def test_reading_the_cards_imports_nothing_heavy():
    heavy = "{'torch', 'diffusers', 'transformers', 'onnxruntime', 'dlib'}"
    code = f"import sys, facechain.engines.table; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
