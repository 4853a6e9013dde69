"""What the documents say is true: commands exist, links lead somewhere, the README's code runs."""

import re
import shlex
from pathlib import Path

import pytest

from facechain import bootstrap
from facechain.cli import app, guarded

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands():
    for document in DOCUMENTS:
        for block in re.findall(r"```bash\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
            for line in block.splitlines():
                if line.startswith("facechain "):
                    yield pytest.param(shlex.split(line, comments=True)[1:], id=f"{document.stem}: {line[:60]}")


def test_there_are_commands_to_check():
    assert len(list(_commands())) >= 10


@pytest.fixture(scope="module")
def home(tmp_path_factory, models):
    """A home folder as the README supposes: photos of Ada, a picture of one's own."""
    import shutil

    folder = tmp_path_factory.mktemp("home")
    (folder / "photos").mkdir()
    (folder / "photos" / "ada").mkdir()
    for name in ("obama.jpg", "obama2.jpg", "obama3.jpg"):
        shutil.copy(models / "demo-photos" / name, folder / "photos" / "ada")
    shutil.copy(models / "demo-photos" / "biden.jpg", folder / "my-picture.jpg")
    return folder


@pytest.fixture
def at_home(home, models, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FACECHAIN_WORKSPACE", str(home / "workspace"))
    monkeypatch.setenv("FACECHAIN_MODELS", str(models.absolute()))
    bootstrap.studio.cache_clear()


def _expand(argument: str) -> list[str]:
    path = Path(argument).expanduser()
    return (
        sorted(map(str, Path().glob(argument))) if "*" in argument else [str(path) if argument[0] == "~" else argument]
    )


@pytest.mark.parametrize("arguments", list(_commands()))
def test_commands_in_the_documents_run(arguments, at_home):
    """In the order of the documents, as a reader would type them."""
    if arguments[0] == "make" or arguments[:2] == ["people", "export"]:  # refused when she is there already
        _enrol()
    words = [word for argument in arguments for word in _expand(argument)]
    if words[:2] == ["make", "Ada"] and "--count" not in words:
        words += ["--count", "1"]
    assert guarded(lambda: app(words, standalone_mode=False)) == 0


def _enrol():
    words = ["people", "add", "Ada", "photos/ada", "--consent-by", "Ada Lovelace", "--purpose", "tests"]
    guarded(lambda: app(words, standalone_mode=False))


def test_the_python_example_runs(at_home):
    guarded(lambda: app(["people", "forget", "Ada", "--yes"], standalone_mode=False))
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["made"].results) == 8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
        if not link.startswith("http"):
            assert (document.parent / link).exists(), link


def test_every_command_is_documented():
    text = "\n".join(document.read_text("utf-8") for document in DOCUMENTS)
    import typer.main

    command = typer.main.get_command(app)
    for name in command.commands:  # type: ignore[attr-defined]
        assert f"facechain {name}" in text or f"scripts/{name}" in text, name
