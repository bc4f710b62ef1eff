"""The files of docs/contract, and whether a record is what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from confluent_kafka import Message
from jsonschema import Draft202012Validator

from tests.kafka_tools import CHECKOUT

FOLDER = CHECKOUT / "docs" / "contract"


def contract_file(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"), parse_float=Decimal)


def complaints_about_value(topic: str, value: bytes | str | None) -> list[str]:
    """Return what the topic's schema has against a record's value."""
    read = json.loads(value or b"", parse_float=Decimal)
    return _complaints(contract_file(f"{topic}.schema.json"), read)


def complaints_about_headers(topic: str, headers: Mapping[str, str]) -> list[str]:
    """Return what the AsyncAPI document has against a record's headers; none may be unknown."""
    document = contract_file("asyncapi.json")
    [reference] = document["channels"][topic]["messages"].values()
    message = document["components"]["messages"][reference["$ref"].rpartition("/")[2]]
    return _complaints({**message["headers"], "additionalProperties": False}, dict(headers))


def headers_of(message: Message) -> dict[str, str]:
    raw = message.headers() or []
    pairs = raw.items() if isinstance(raw, dict) else raw
    return {name: value.decode() for name, value in pairs if isinstance(value, bytes)}


def _complaints(schema: dict[str, Any], instance: object) -> list[str]:
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [error.message for error in validator.iter_errors(instance)]
