"""Fixtures every test may ask for; real models and photos come through the pack mechanism."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Continuous integration checks the same examples every time; at home hypothesis looks for new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def models() -> Path:
    """Folder holding the fetched packs, models/<pack id>/<file>; `scripts/setup` fills it."""
    folder = Path(os.environ.get("FACECHAIN_MODELS", ROOT / "models"))
    if not (folder / "yunet").is_dir():
        pytest.fail("The test models are not fetched: run `bash scripts/setup` first.")
    return folder


@pytest.fixture(scope="session")
def sd15(tmp_path_factory) -> Path:
    """A tiny diffusers folder of SD 1.5's shape; nobody may change it."""
    import tiny

    return tiny.sd15(tmp_path_factory.mktemp("bases") / "sd15")


@pytest.fixture(scope="session")
def sdxl(tmp_path_factory) -> Path:
    """A tiny diffusers folder of SDXL's shape; nobody may change it."""
    import tiny

    return tiny.sdxl(tmp_path_factory.mktemp("bases") / "sdxl")
