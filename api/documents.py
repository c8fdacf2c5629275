"""The service's description: OpenAPI for machines, one plain page for people."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi
from starlette.routing import compile_path

from . import views
from .problems import MEDIA_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI

    from .service import Service

MEANINGS = {
    400: "The request cannot be read",
    401: "A valid API key is needed",
    403: "A page of another origin may not do that",
    404: "There is no such thing here",
    408: "The body took too long to arrive",
    409: "In conflict with what is there",
    413: "Too large",
    415: "A content type or kind of file that is not taken",
    416: "The range lies outside the file",
    421: "The service does not answer to that host name",
    422: "The inputs do not fit the interface",
    429: "Too many jobs wait already",
    500: "The job or the service failed",
    503: "Not possible now",
    507: "No space is left",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses: each status as problem details."""
    reference = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": MEANINGS[status], "content": {MEDIA_TYPE: reference}} for status in statuses}


def openapi(app: FastAPI, service: Service) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        components = schema.setdefault("components", {}).setdefault("schemas", {})
        components.pop("HTTPValidationError", None)
        components.pop("ValidationError", None)
        components["Problem"] = views.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(components["Problem"].pop("$defs", {}))
        inputs = service.inputs.model.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(inputs.pop("$defs", {}))
        components["Inputs"] = {**inputs, "title": "Inputs"}
        components["InputsForm"] = {**form_schema(inputs, service), "title": "InputsForm"}
        body = {
            "required": bool(inputs.get("required")),
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Inputs"}},
                "multipart/form-data": {"schema": {"$ref": "#/components/schemas/InputsForm"}},
            },
        }
        for path in ("/generate", "/jobs"):
            operation = schema["paths"][path]["post"]
            operation["requestBody"] = body
            operation.setdefault("parameters", []).extend(_headers(path))
        named = next(p for p in schema["paths"]["/uploads"]["post"]["parameters"] if p["name"] == "parameter")
        if service.files.names:
            named["schema"] = {"type": "string", "enum": list(service.files.names)}
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"] |= _everywhere(service, operation)
        if service.settings.api_keys:
            components_root = schema["components"]
            components_root["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            schema["security"] = [{"bearer": []}, {"key": []}]
        app.openapi_schema = schema
    return app.openapi_schema


def methods(app: FastAPI, service: Service, path: str) -> list[str]:
    """The methods that an address takes."""
    found: set[str] = set()
    for template, operations in openapi(app, service)["paths"].items():
        if compile_path(template)[0].match(path):
            found |= {method.upper() for method in operations}
    if path.startswith("/artifacts/"):
        found.add("HEAD")
    return sorted(found)


def _everywhere(service: Service, operation: dict[str, Any]) -> dict[str, Any]:
    """The refusals that any route may give before it is asked."""
    statuses = (401,) if service.settings.api_keys else (403, 421)
    found = {str(status): answer for status, answer in problems(*statuses).items()}
    if "422" in operation["responses"]:
        found |= {str(status): answer for status, answer in problems(422).items()}
    return found


def form_schema(inputs: dict[str, Any], service: Service) -> dict[str, Any]:
    """The multipart form of the inputs: files are parts, an empty value does not exist."""
    properties = {}
    for name, schema in inputs.get("properties", {}).items():
        schema = dict(schema)
        if service.files.parameter(name) is not None:
            schema = {key: value for key, value in schema.items() if key in {"title", "description"}}
            schema |= {"type": "string", "format": "binary"}
        elif "anyOf" in schema:
            kinds = [kind for kind in schema.pop("anyOf") if kind.get("type") != "null"]
            schema |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
            if schema.get("default", 0) is None:
                del schema["default"]
        properties[name] = schema
    return {**inputs, "properties": properties}


def _headers(path: str) -> list[dict[str, Any]]:
    headers = [
        (
            "Idempotency-Key",
            "The same key with the same inputs gives the same job.",
            {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        )
    ]
    if path == "/generate":
        headers.append(
            ("Prefer", "`respond-async` answers 202 at once, `wait=10` after ten seconds.", {"type": "string"})
        )
    return [
        {"name": name, "in": "header", "required": False, "description": text, "schema": schema}
        for name, text, schema in headers
    ]


def front_page(service: Service, base: str) -> str:
    """One page that leads to everything else."""
    title = html.escape(service.bundle.name)
    rows = "".join(
        f"<tr><td><code>{html.escape(p.name)}</code></td><td>{p.type.value}</td>"
        f"<td>{'needed' if p.required else html.escape(str(p.default))[:80]}</td>"
        f"<td>{html.escape(p.description)}</td></tr>"
        for p in service.interface.parameters
    )
    links = "".join(
        f'<li><a href="{base}{path}">{text}</a></li>'
        for path, text in (
            ("/docs", "Documentation to try out"),
            ("/openapi.json", "OpenAPI"),
            ("/interface", "The interface"),
            ("/workflow.json", "The workflow"),
            ("/jobs", "Jobs"),
            ("/health/ready", "Health"),
        )
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:3rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{border:1px solid #8886;padding:.2rem .6rem;text-align:left}</style>"
        f"<h1>{title}</h1><p>A workflow, served by Comfy Atelier. <code>POST {base}/generate</code> runs it.</p>"
        f"<table><tr><th>parameter</th><th>type</th><th>default</th><th></th></tr>{rows}</table><ul>{links}</ul></html>\n"
    )
