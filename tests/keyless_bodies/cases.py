"""The shape of a case: a body, the question that it answers, and what it is to be read as."""

from __future__ import annotations

import json
from typing import NamedTuple

from tests.provider_bodies_stocks import Body


class Case(NamedTuple):
    """`expected`: lines of quotes and refusals, or one code; `bars`: lines of bars."""

    body: Body
    expected: list[str]
    bars: list[str]


def case(
    provider: str,
    name: str,
    content: object,
    *expected: str,
    status: int = 200,
    symbols: str = "",
    url: str = "",
    bars: tuple[str, ...] = (),
) -> Case:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    asked = tuple(symbols.split(",")) if symbols else ()
    return Case(Body(provider, name, body, status, asked, url), list(expected), list(bars))
