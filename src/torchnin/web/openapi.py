"""The document at `/openapi.json`: what the service takes and gives, for programs that write clients."""

from typing import Any

from torchnin.classifier import Classifier
from torchnin.version import __version__
from torchnin.web.access import MODEL, Access
from torchnin.web.limits import DECLARED, KINDS, Limits

_ERRORS = {
    "400": "The request cannot be read, its body is empty, it has too many pictures, or a parameter is not known.",
    "401": "The service wants its token.",
    "403": "The page that asks may not; see `--allow-origin`.",
    "408": "The body did not come in time.",
    "413": "The body or the picture is too large.",
    "415": "The body is no picture of a kind that is taken, or of another kind than declared.",
    "421": "The service is not known by the name in the Host header; see `--allow-host`.",
    "422": "The picture does not decode: it is truncated or broken.",
    "500": "The service failed; its log says where.",
    "503": "There is no room just now; `Retry-After` says when to try again.",
    "504": "No answer in time.",
}
_ALWAYS = ("400", "403", "421", "500")
_NUMBER = {"type": "number"}
_INTEGER = {"type": "integer"}
_STRING = {"type": "string"}
_OF_MODEL = {
    MODEL: {
        "description": "Which classifier answered: another value where `/v1/model` says something else.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    }
}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}


def describe(classifier: Classifier, access: Access, limits: Limits) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the service for one classifier, as it was started."""
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "torchnin",
            "version": __version__,
            "description": "A trained Network in Network: predictions, explanations, and what it is made of. "
            'Every error is `{"error": "one sentence"}`.',
        },
        "servers": [{"url": "."}],  # beside this document, also where a proxy shows it below a path of its own
        "security": [],  # where an operation names none
        "paths": {
            "/v1/predict": {"post": _predict(limits)},
            "/v1/explain": {"post": _explain(limits)},
            "/v1/model": {"get": _get("model", "What the classifier is made of", _schema("Model"), headers=_OF_MODEL)},
            "/v1/samples": {"get": _get("samples", "A few pictures to begin with", _schema("Samples"))},
            "/healthz": {"get": _get("health", "Whether the service answers", _schema("Health"), more=("503",), guarded=False)},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _get("describe", "This document", {"type": "object"}, guarded=False)},
        },
        "components": {"schemas": _schemas(classifier)},
    }
    if access.token is not None:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    else:
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("401", None)
                operation.pop("security", None)
    return document


def _predict(limits: Limits) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "Classify one picture or several",
        "description": f"One picture as the body, or up to {limits.max_pictures} as the files of a form. A body of at most "
        f"{limits.max_body_bytes:,} bytes, pictures of at most {limits.max_pixels:,} pixels; {KINDS}. Of an animation the first "
        "picture counts. For a form the answer is a list in the order of the files, with status 200 if any could be used: one that "
        "could not has `error` in its place. If none could, the status is that of the first.",
        "requestBody": _body(most=limits.max_pictures),
        "responses": {
            **_answer({"oneOf": [_schema("Prediction"), {"type": "array", "items": {"oneOf": [_schema("Prediction"), _schema("Error")]}}]}),
            **_errors("401", "408", "413", "415", "422", "503", "504"),
        },
        "security": [{"token": []}],
    }


def _explain(limits: Limits) -> dict[str, Any]:
    return {
        "operationId": "explain",
        "summary": "What the network saw where in one picture",
        "description": f"One picture, as the body or as the only file of a form; bounds as for predictions ({limits.max_pixels:,} pixels).",
        "parameters": [
            {
                "name": "layers",
                "in": "query",
                "description": "Whether to add the maps of every layer.",
                "schema": {"type": "boolean", "default": True},
            }
        ],
        "requestBody": _body(most=1),
        "responses": {**_answer(_schema("Explanation"), _OF_MODEL), **_errors("401", "408", "413", "415", "422", "503", "504")},
        "security": [{"token": []}],
    }


def _metrics() -> dict[str, Any]:
    return {
        "operationId": "metrics",
        "summary": "Counts and times in Prometheus's text format",
        "responses": {"200": {"description": "The metrics.", "content": {"text/plain": {"schema": _STRING}}}, **_errors("401")},
        "security": [{"token": []}],
    }


def _get(
    name: str,
    summary: str,
    schema: dict[str, Any],
    *,
    more: tuple[str, ...] = (),
    guarded: bool = True,
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": {**_answer(schema, headers), **_errors(*more)}}
    if guarded:
        operation["responses"] |= _errors("401")
        operation["security"] = [{"token": []}]
    return operation


def _body(*, most: int) -> dict[str, Any]:
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": most}
    form = {"type": "object", "properties": {"picture": files}, "required": ["picture"], "additionalProperties": False}
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "required": True,
        "content": {**dict.fromkeys((*DECLARED, "application/octet-stream"), binary), "multipart/form-data": {"schema": form}},
    }


def _answer(schema: dict[str, Any], headers: dict[str, Any] | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "The answer.", "content": {"application/json": {"schema": schema}}}
    return {"200": {**answer, "headers": headers} if headers else answer}


def _errors(*statuses: str) -> dict[str, Any]:
    content = {"application/json": {"schema": _schema("Error")}}
    return {status: {"description": _ERRORS[status], "content": content} for status in sorted({*_ALWAYS, *statuses})}


def _schema(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _schemas(classifier: Classifier) -> dict[str, Any]:
    names = list(classifier.class_names)
    label = {"type": "string", "enum": names}
    per_class = {"type": "array", "items": _NUMBER, "minItems": len(names), "maxItems": len(names)}
    packed = {"dtype": _STRING, "shape": {"type": "array", "items": _INTEGER}, "data": {"type": "string", "contentEncoding": "base64"}}
    maps = {"oneOf": [_object(packed), {"type": "null"}]}
    grid = _object({"size": _pair(), "centre": _NUMBER, "stride": _INTEGER, "picture_size": _pair()})
    layer = _object({"layer": _STRING, "low": _NUMBER, "high": _NUMBER, **packed})
    return {
        "Error": _object({"error": {"type": "string", "minLength": 1}}),
        "Prediction": _object(
            {"label": label, "probability": _SHARE, "probabilities": _object(dict.fromkeys(names, _SHARE), "Most probable first.")}
        ),
        "Explanation": _object(
            {
                "label": label,
                "probability": _SHARE,
                "class_names": {"const": names},
                "logits": per_class,
                "probabilities": per_class,
                "means": {"oneOf": [per_class, {"type": "null"}], "description": "Of each class map; the logits."},
                "picture": _object(packed, "What the network sees after resizing, (c, h, w)."),
                "class_maps": {**maps, "description": "(k, y, x), little-endian."},
                "grid": {"oneOf": [grid, {"type": "null"}], "description": "Where the maps' values lie in that picture."},
            },
            optional={"blocks": {"type": "array", "items": _object({"block": _STRING, "grid": grid, "layers": _list(layer)})}},
        ),
        "Model": {
            "type": "object",
            "required": ["name", "network", "num_parameters", "num_macs", "input", "class_names", "layers", "metadata", "parts"],
            "properties": {
                "name": {"type": ["string", "null"]},
                "network": {"type": "object", "description": "Every choice in the network, as in config.json."},
                "num_parameters": _INTEGER,
                "num_macs": _INTEGER,
                "input": _object({"channels": _INTEGER, "height": _INTEGER, "width": _INTEGER, "mean": _list(_NUMBER)}),
                "class_names": {"const": names},
                "layers": _list({"type": "object"}),
                "parts": _list({"type": "object"}),
                "metadata": {"type": "object", "description": "What is recorded of its training, such as test_accuracy."},
            },
        },
        "Samples": _object({"samples": _list(_object({"label": label, "picture": {"type": "string", "description": "A data: address."}}))}),
        "Health": _object({"status": {"const": "ok"}}),
    }


def _object(properties: dict[str, Any], description: str = "", *, optional: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {**properties, **(optional or {})},
        "required": list(properties),
        "additionalProperties": False,
    }
    return {**schema, "description": description} if description else schema


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _pair() -> dict[str, Any]:
    return {"type": "array", "items": _INTEGER, "minItems": 2, "maxItems": 2}
