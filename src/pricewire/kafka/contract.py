"""The contract of the topics as files: JSON Schema for the values, AsyncAPI 3 for all of it.

The composition root says which topics there are, `scripts/contract.py` writes the files to
`docs/contract`, and a test compares. Invariant: types come from the very models that the codec
writes with; what is added here is meaning, and a member or header without one is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pricewire.kafka.codec import Record
from pricewire.kafka.topic import TopicPlan

JsonObject = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
BINDING_VERSION = "0.5.0"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a member or a header says, and what its type alone does not tell."""

    text: str
    schema: JsonObject = field(default_factory=dict)
    always: bool = True


@dataclass(frozen=True, slots=True)
class TopicContract:
    """All that a consumer of a topic must know.

    Args:
        message: the name of its one kind of message.
        value: the model that values are written from; None: they are of another topic, as they are.
        example: a record made by the codec.
    """

    plan: TopicPlan
    title: str
    summary: str
    message: str
    value: type[msgspec.Struct] | None
    members: Mapping[str, Meaning]
    key: Meaning
    headers: Mapping[str, Meaning]
    example: Record | None

    @property
    def schema_file(self) -> str:
        return f"{self.plan.name}.schema.json"


def contract_files(version: str, topics: Sequence[TopicContract]) -> dict[str, bytes]:
    """Return the content of each file by its name."""
    files = {
        topic.schema_file: {
            "$schema": DIALECT,
            "$id": f"urn:pricewire:contract:{topic.plan.name}",
            **value_schema(topic),
        }
        for topic in topics
        if topic.value is not None
    }
    files["asyncapi.json"] = asyncapi(version, topics)
    return {name: _pretty(content) for name, content in files.items()}


def _pretty(content: JsonObject) -> bytes:
    """`msgspec` keeps the digits of a price in an example."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def value_schema(topic: TopicContract) -> JsonObject:
    """Return the JSON Schema of a value: the model's types, the members' meanings, nothing else."""
    assert topic.value is not None
    [generated], components = msgspec.json.schema_components([topic.value])
    model = components[generated["$ref"].rpartition("/")[2]]
    properties = {
        name: _member(schema, topic.members[name]) for name, schema in model["properties"].items()
    }
    return {
        "title": topic.title,
        "description": topic.summary,
        "type": "object",
        "properties": properties,
        "required": list(model["required"]),
        "additionalProperties": False,
        **({"examples": [msgspec.Raw(topic.example.value)]} if topic.example else {}),
    }


def _member(model: JsonObject, meaning: Meaning) -> JsonObject:
    """Where the meaning has a type it is the whole of it: the model's is how Python holds it."""
    types = {} if "type" in meaning.schema else model
    return {**types, **meaning.schema, "description": meaning.text}


def asyncapi(version: str, topics: Sequence[TopicContract]) -> JsonObject:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Pricewire",
            "version": version,
            "description": "The topics that Pricewire publishes to, as they are by default.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "The local Kafka; another one is named by KAFKA_BOOTSTRAP_SERVERS.",
            }
        },
        "channels": {topic.plan.name: _channel(topic) for topic in topics},
        "operations": {f"publish-{topic.plan.name}": _operation(topic) for topic in topics},
        "components": {
            "messages": {topic.message: _message(topic) for topic in topics},
            "schemas": {topic.plan.name: value_schema(topic) for topic in topics if topic.value},
        },
    }


def _channel(topic: TopicContract) -> JsonObject:
    plan = topic.plan
    return {
        "address": plan.name,
        "title": topic.title,
        "description": topic.summary,
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": {topic.message: {"$ref": f"#/components/messages/{topic.message}"}},
        "bindings": {
            "kafka": {
                "topic": plan.name,
                "partitions": plan.partitions,
                "replicas": plan.replication_factor,
                "topicConfiguration": {
                    "cleanup.policy": [plan.config()["cleanup.policy"]],
                    "retention.ms": int(plan.config()["retention.ms"]),
                },
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def _operation(topic: TopicContract) -> JsonObject:
    name = topic.plan.name
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": topic.summary,
        "messages": [{"$ref": f"#/channels/{name}/messages/{topic.message}"}],
    }


def _message(topic: TopicContract) -> JsonObject:
    message: JsonObject = {
        "name": topic.message,
        "title": topic.title,
        "summary": topic.summary,
        "headers": headers_schema(topic),
        "bindings": {
            "kafka": {
                "key": {"type": "string", **topic.key.schema, "description": topic.key.text},
                "bindingVersion": BINDING_VERSION,
            }
        },
    }
    if topic.value is not None:
        message["contentType"] = "application/json"
        message["payload"] = {"$ref": f"#/components/schemas/{topic.plan.name}"}
    if topic.example is not None:
        headers = {name: _text(value) for name, value in topic.example.headers}
        message["examples"] = [{"headers": headers, "payload": msgspec.Raw(topic.example.value)}]
    return message


def headers_schema(topic: TopicContract) -> JsonObject:
    """Return the JSON Schema of a record's headers, all of them UTF-8 text."""
    return {
        "type": "object",
        "properties": {
            name: {"type": "string", **meaning.schema, "description": meaning.text}
            for name, meaning in topic.headers.items()
        },
        "required": [name for name, meaning in topic.headers.items() if meaning.always],
    }


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
