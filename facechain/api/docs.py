"""/docs: the OpenAPI document as one plain page, made here; it asks for nothing from any other server."""

from __future__ import annotations

import html
import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

router = APIRouter(include_in_schema=False)

INTRODUCTION = (
    "Photos become a person, engines paint portraits, the judge keeps the true likenesses. Long work is a job: the"
    " answer comes at once, with an id to watch. Every refusal is JSON with `error`, `what` and `next_step`. Where"
    " there are users, send `Authorization: Bearer TOKEN`; everybody sees only what is theirs. Lists come in pages:"
    " send `next` as `cursor`. Requests that start work take an `Idempotency-Key`: sent twice, done once."
)
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
code,pre{font:14px/1.45 ui-monospace,monospace}
pre{background:#f3f3f1;padding:.7rem;overflow:auto;max-height:22rem;border-radius:4px}
summary{cursor:pointer;padding:.35rem 0}summary b{display:inline-block;width:4.5rem}details{border-top:1px solid #ddd}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
nav a{margin-right:1rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#262626}details{border-color:#444}
a{color:#8ab4f8}}"""
_CLOSED = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """The page; its Content-Security-Policy would stop a browser from loading anything else."""
    here = str(request.base_url).rstrip("/")
    return HTMLResponse(page(request.app.openapi(), here), headers={"Content-Security-Policy": _CLOSED})


def page(document: dict[str, Any], here: str) -> str:
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = operation.get("tags", ["other"])[0]
            by_tag.setdefault(tag, []).append(_operation(document, here, method.upper(), path, operation))
    title, version = document["info"]["title"], document["info"]["version"]
    links = "".join(f'<a href="#{tag}">{tag}</a>' for tag in by_tag)
    parts = "".join(f'<h2 id="{tag}">{tag.capitalize()}</h2>{"".join(found)}' for tag, found in by_tag.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title} API</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style>'
        f"<h1>{title} {html.escape(version)}</h1><p>{_text(document['info']['description'])}</p>"
        f'<p>For programs: <a href="/openapi.json">openapi.json</a></p><nav>{links}</nav>{parts}</html>'
    )


def _operation(document: dict[str, Any], here: str, method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [
        (f"<code>{p['name']}</code> <small>{p['in']}</small>", _text(p.get("description", "")))
        for p in operation.get("parameters", ())
    ]
    body = next(iter(operation.get("requestBody", {}).get("content", {}).items()), None)
    if body and "multipart" in body[0]:
        fields = _resolve(document, body[1]["schema"])
        needed = fields.get("required", ())
        rows += [
            (f"<code>{name}</code> <small>form{'' if name in needed else ', optional'}</small>", _text(about))
            for name, about in ((name, field.get("description", "")) for name, field in fields["properties"].items())
        ]
    answers = [
        (f"<code>{status}</code>", _text("As it should be." if status < "3" else said["description"]))
        for status, said in operation["responses"].items()
    ]
    examples = "".join(
        f"<pre>{html.escape(line)}</pre>" for line in _calls(document, here, method, path, operation, body)
    )
    return (
        f"<details><summary><b>{method}</b> <code>{html.escape(path)}</code></summary>"
        f"<p>{_text(operation.get('description', ''))}</p>{_table(rows)}{examples}"
        f"{_answer(document, operation)}{_table(answers)}</details>"
    )


def _calls(
    document: dict[str, Any],
    here: str,
    method: str,
    path: str,
    operation: dict[str, Any],
    body: tuple[str, dict] | None,
) -> list[str]:
    """What to type, one a body's example."""
    for parameter in operation.get("parameters", ()):
        example = next(iter(parameter["schema"].get("examples", ())), parameter["name"].upper())
        path = path.replace(f"{{{parameter['name']}}}", str(example))
    verb = "" if method == "GET" else f"-X {method} "
    call = f"curl {verb}{here}{path} -H 'Authorization: Bearer TOKEN'"
    if body is None:
        return [call]
    kind, content = body
    if "multipart" in kind:
        fields = _resolve(document, content["schema"])["properties"]
        given = (
            f"-F {name}=@me.jpg" if field.get("type") == "array" else f"-F '{name}={sample(document, field)}'"
            for name, field in fields.items()
        )
        return [f"{call} \\\n  {' '.join(given)}"]
    given = content.get("examples", {}).values()
    values = [example["value"] for example in given] or [sample(document, content["schema"])]
    return [f"{call} \\\n  -H 'Content-Type: application/json' -d '{json.dumps(value)}'" for value in values]


def _answer(document: dict[str, Any], operation: dict[str, Any]) -> str:
    """What comes back, when it is JSON."""
    good = next(said for status, said in operation["responses"].items() if status < "3")
    schema = good.get("content", {}).get("application/json", {}).get("schema")
    if not schema:
        return ""
    return f"<pre>{html.escape(json.dumps(sample(document, schema), indent=1, ensure_ascii=False))}</pre>"


def sample(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    """A value that fits a schema: its own example, or something plain."""
    schema = _resolve(document, schema)
    if "examples" in schema:
        return schema["examples"][0]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return sample(document, schema[choice][0])
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {name: sample(document, field) for name, field in schema.get("properties", {}).items()}
        case "array":
            return [sample(document, schema["items"])]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case _:
            return "2026-01-02T03:04:05Z" if schema.get("format") == "date-time" else "…"


def _resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def _table(rows: list[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><td>{name}</td><td>{about}</td></tr>' for name, about in rows)}</table>"


def _text(markdown: str) -> str:
    """Escaped; pieces between backticks as code."""
    pieces = html.escape(markdown).split("`")
    return "".join(f"<code>{piece}</code>" if at % 2 else piece for at, piece in enumerate(pieces))
