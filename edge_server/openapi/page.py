"""The page at /docs: what the service takes, a form to try it, and the answer. It loads nothing from other places."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import orjson

from edge_server.config.values import ServiceConfig
from edge_server.errors import BadRequest
from edge_server.http.messages import HTML, Response
from edge_server.openapi.page_parts import SCRIPT, STYLE
from edge_server.service import Description, TensorInfo

# More columns than that are collapsed.
_COLUMNS_SHOWN = 6
# Singular and plural of what dtypes begin with.
_KINDS = (
    ("float", ("number", "numbers")),
    ("int", ("whole number", "whole numbers")),
    ("uint", ("whole number", "whole numbers")),
    ("bool", ("true or false", "values, true or false")),
    ("string", ("text", "texts")),
)
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def page(description: Description, config: ServiceConfig, model: str | None = None) -> Response:
    """The page of the service, or of one of its models; BadRequest 404 when there is no such model."""
    shown, query = description, ""
    if description.models:
        name = next(iter(description.models)) if model is None else model
        if name not in description.models:
            raise BadRequest(f"there is no model {name[:80]!r}", 404)
        shown, query, model = description.models[name], f"model={_quoted(name)}", name
    identity = config.identity
    body = "".join(
        (
            f"<header><h1>{escaped(identity.name)}</h1><p>version {escaped(identity.version)} · described as ",
            ", ".join(f'<a href="swagger.json?version={version}">{name}</a>' for version, name in _DOCUMENTS.items()),
            ' · <a href="metrics">metrics</a>' if config.metrics else "",
            "</p></header><main><div>",
            _choice(description.models, model),
            _form(shown, identity.path_prefix, query, guarded=config.auth.mode != "none"),
            "</div><div>",
            _tensors("Inputs", shown.inputs),
            _tensors("Outputs", shown.outputs),
            _schema("Body", shown.input_schema, shown.inputs),
            _schema("Answer", shown.output_schema, shown.inputs),
            "</div></main>",
        )
    )
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{escaped(identity.name)}</title><link rel="icon" href="data:,"><style>{STYLE}</style></head>'
        f"<body>{body}<script>{SCRIPT}</script></body></html>"
    )
    headers = [
        (b"content-security-policy", _policy()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]
    return Response(200, text.encode("utf-8", "replace"), HTML, headers)


_DOCUMENTS = {"2": "Swagger 2", "3": "OpenAPI 3.0", "3.1": "OpenAPI 3.1"}


def escaped(text: object) -> str:
    """The text for HTML, within quotes too."""
    return str(text).translate(_ESCAPES)


@cache
def _policy() -> bytes:
    """Only this style and this script run; the page connects to its own server only, and cannot be framed."""
    from hashlib import sha256

    style, script = (base64.b64encode(sha256(part.encode()).digest()).decode() for part in (STYLE, SCRIPT))
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; "
        "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ).encode()


def _choice(models: Mapping[str, Description], chosen: str | None) -> str:
    if not models:
        return ""
    options = "".join(f"<option{' selected' if name == chosen else ''}>{escaped(name)}</option>" for name in models)
    return (
        '<section><form action="docs"><label for="model">Model</label>'
        f'<select id="model" name="model">{options}</select><noscript><button>Show</button></noscript></form></section>'
    )


def _form(description: Description, prefix: str, query: str, *, guarded: bool) -> str:
    example = description.input_schema.get("example")
    written = "" if example is None else orjson.dumps(example).decode()
    target = f"{prefix.rstrip('/')}/score{query and '?' + query}"
    fields = ""
    if len(description.methods) > 1:
        options = "".join(f"<option>{escaped(name)}</option>" for name in description.methods)
        fields += f'<div><label for="method">Method</label><select id="method">{options}</select></div>'
    if guarded:
        fields += (
            '<div><label for="key">Key or token</label>'
            '<input id="key" type="password" autocomplete="off" spellcheck="false"></div>'
        )
    if description.formats:
        accepted = escaped(",".join((*description.formats, ".npy")))
        fields += (
            '<div><label for="file">A file instead of the body</label>'
            f'<input id="file" type="file" accept="{accepted}"></div>'
        )
    return (
        f'<section><h2>Try it</h2><form id="try" data-query="{escaped(query)}">'
        f'<label for="body">Body of <code>POST {escaped(target)}</code></label>'
        # The parser drops one line feed at the beginning.
        f'<textarea id="body" spellcheck="false" autocapitalize="off">\n{escaped(written)}</textarea>'
        f'<div class="row">{fields}<button>Send</button></div></form>'
        '<div id="answer" role="status" hidden><span id="status"></span> <span id="time"></span>'
        '<dl id="headers"></dl><pre id="text" tabindex="0" aria-label="Answer"></pre></div>'
        '<details><summary>As a command</summary><pre id="curl" tabindex="0"></pre></details></section>'
    )


def _tensors(title: str, tensors: Iterable[TensorInfo]) -> str:
    rows = "".join(map(_tensor, tensors))
    return f"<section><h2>{title}</h2><ul>{rows}</ul></section>" if rows else ""


def _tensor(tensor: TensorInfo) -> str:
    columns = ", ".join(f"<code>{escaped(name)}</code>" for name in tensor.columns)
    if len(tensor.columns) > _COLUMNS_SHOWN:
        columns = f"<details><summary>{len(tensor.columns)} columns</summary>{columns}</details>"
    elif columns:
        columns = f"<p>{columns}</p>"
    note = f"<p>{escaped(tensor.note)}</p>" if tensor.note else ""
    kind = f'<span title="{escaped(tensor.dtype)}">{escaped(_kind(tensor))}</span>'
    return f"<li><b>{escaped(tensor.name)}</b> {kind}{columns}{note}</li>"


def _kind(tensor: TensorInfo) -> str:
    """What one row has, in words: ``number``, ``3 × 224 × 224 numbers``; or the dtype, where it is unusual."""
    one, many = next((words for start, words in _KINDS if tensor.dtype.startswith(start)), (tensor.dtype, tensor.dtype))
    if tensor.shape is None:
        return f"{many}, in lists of any depth"
    by_row = tensor.shape[:1] == (None,)
    sizes = ["any number of" if size is None else str(size) for size in (tensor.shape[1:] if by_row else tensor.shape)]
    text = one if all(size == "1" for size in sizes) else f"{' × '.join(sizes)} {many}"
    return f"{text} in each row" if by_row and sizes and text != one else text


def _schema(title: str, schema: Mapping[str, Any], tensors: tuple[TensorInfo, ...]) -> str:
    """The JSON Schema, where there are no inputs and outputs to tell of."""
    described = {key: value for key, value in schema.items() if key != "example"}
    if tensors or not described:
        return ""
    written = orjson.dumps(described, option=orjson.OPT_INDENT_2).decode()
    return f'<section><h2>{title}</h2><pre tabindex="0">{escaped(written)}</pre></section>'


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
