"""Who may import whom, read from the source; the tables of the design as code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "facechain"
SPINE = {"types", "params", "protocols", "errors", "config", "disk", "limits"}
STAGES = {"photos", "people", "portraits", "judge"}
TOOLS = {"vision", "engines", "packs", "store", "jobs", "lab"}
DOORS = {"cli", "api", "ui", "demo", "__main__"}

# One heavy library, one home.
HOMES = {
    "torch": {"engines", "lab"},
    "diffusers": {"engines", "lab"},
    "transformers": {"engines", "lab"},
    "peft": {"engines", "lab"},
    "accelerate": {"engines", "lab"},
    "onnxruntime": {"vision"},
    "ai_edge_litert": {"vision"},
    "dlib": {"vision"},
    "insightface": {"vision"},
    "gradio": {"ui"},
    "fastapi": {"api", "ui"},
    "uvicorn": {"api"},
    "huggingface_hub": {"packs"},
    "sqlalchemy": {"store", "jobs"},
    "huey": {"jobs"},
    "ray": {"jobs"},
    "typer": {"cli"},
    "rich": {"cli"},
}


def _may(home: str) -> set[str]:
    """Top-level names of ours that a file in `home` may import."""
    if home in SPINE or home == "__init__":
        return SPINE
    if home in STAGES | TOOLS:
        return SPINE | {home}
    if home == "studio":
        return SPINE | STAGES
    if home == "bootstrap":
        return SPINE | STAGES | TOOLS | {"studio"}
    if home == "doctor":
        return SPINE | {"bootstrap"}
    assert home in DOORS, f"{home} has no place in the design"
    return SPINE | STAGES | DOORS | {"studio", "bootstrap", "doctor"}


def _imports(path: Path):
    """(module, runs) of every import; `runs` is False under `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text("utf-8"))
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            hidden |= {id(child) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in hidden) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module, id(node) not in hidden


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_point_the_right_way(path):
    home = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for module, runs in _imports(path):
        top, *rest = module.split(".")
        if top == "facechain" and rest and runs:
            assert rest[0] in _may(home), f"{path.name} imports {module}"
        if top in HOMES:
            assert home in HOMES[top], f"{path.name} imports {top}, whose home is {HOMES[top]}"


def test_help_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, facechain.cli; print(sorted({'numpy','torch','cv2','rich','sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
