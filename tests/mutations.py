"""Bodies broken in ways that a vendor, a proxy or a disk might: in their bytes, in their JSON.

Everything is drawn from one seeded generator, so that a seed is a body. JSON is written by hand
here, since `json.dumps` knows neither duplicate keys nor half a surrogate pair.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any

from tests.provider_bodies_stocks import Body
from tests.stock_outcomes import SECRET

_NUMBERS = (
    *("0", "-0", "-1", "-0.01", "1e400", "1E-400", "1e-9", "9" * 70, "0." + "0" * 70 + "1"),
    *("1e99999999999", "-1e308", "NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x10"),
    *("1710943329", "1710943329000", "1710943329000000000", "9" * 19, "-1710943329", "1e18"),
)
_TEXTS = (
    *("", " ", "ACME", "MSFT", "null", "NaN", "-1", "0", "1e400", "٣", "１２", "1,234.5", "$12"),
    *("error", "OK", "2024-03-20", "2024-02-30", "9999-12-31T23:59:59-23:59", "GBp", SECRET),
    *("\ud83d", "\x00", "\u2028", "x" * 5000, "<html>", "Infinity", "12.5 ", "1_000"),
)
_BYTES = (
    *(b"\x00", b"\xff", b"\xed\xa0\xbd", b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n"),
    *(b"e9999", b"-", b".", b"0", b"NaN", b"\\ud83d", b"\\u0000", b"null", b"\xef\xbb\xbf"),
)


class Twice(dict[str, Any]):
    """An object in which one key stands twice."""

    again: tuple[str, Any]


class Literal(str):
    """JSON as it is to be written, such as a number of a thousand digits."""

    __slots__ = ()


def mutate(case: Body, chance: random.Random) -> bytes:
    """Change a few values of a body, or a few of its bytes, or both."""
    body = case.body
    kind = chance.random()
    if kind < 0.7:
        body = _mutate_json(body, chance)
    if kind > 0.5:
        for _ in range(chance.randint(1, 3)):
            body = _mutate_bytes(body, chance)
    return body


def _mutate_bytes(body: bytes, chance: random.Random) -> bytes:
    at = chance.randint(0, len(body))
    kind = chance.randint(0, 5)
    if kind == 0:
        return body[:at]
    if kind == 1:
        # A digit becomes another one: the price is another, and must be told as that.
        return body[:at] + body[at:].replace(b"1", b"7", 1)
    if kind == 2:
        end = min(len(body), at + chance.randint(1, 40))
        return body[:end] + body[at:end] + body[end:]
    cut = chance.randint(0, 3)
    return body[:at] + chance.choice(_BYTES) + body[at + cut :]


def _mutate_json(body: bytes, chance: random.Random) -> bytes:
    try:
        document = json.loads(body, parse_float=Literal)
    except ValueError:
        return body
    for _ in range(chance.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        document = _change(document, *chance.choice(places), chance)
    # As `json.dumps` escapes them, halves of surrogate pairs are written as escapes.
    return written(document).encode()


def _change(document: Any, holder: Any, key: Any, chance: random.Random) -> Any:
    value = holder[key]
    kind = chance.randint(0, 9)
    if kind == 0 and isinstance(holder, dict):
        del holder[key]
    elif kind == 1 and isinstance(holder, dict) and type(holder) is dict:
        twice = Twice(holder)
        twice.again = (key, _value(chance))
        return _replaced(document, holder, twice)
    elif kind == 2:
        holder[key] = _nested(value, chance)
    elif kind == 3:
        holder[key] = _swapped(value)
    elif kind == 4:
        other_holder, other_key = chance.choice(list(_places(document)))
        holder[key] = other_holder[other_key] if other_holder is not holder else value
        if _holds(holder[key], holder):
            holder[key] = None
    else:
        holder[key] = _value(chance)
    return document


def _value(chance: random.Random) -> Any:
    kind = chance.randint(0, 7)
    if kind < 3:
        return Literal(chance.choice(_NUMBERS))
    if kind < 6:
        return chance.choice(_TEXTS)
    return chance.choice((None, True, False, [], {}, [None], {"": ""}, [[0]]))


def _nested(value: Any, chance: random.Random) -> Any:
    depth = chance.choice((1, 2, 50, 2_000))
    inner = written(value)
    return Literal("[" * depth + inner + "]" * depth if chance.random() < 0.5 else
                   '{"a":' * depth + inner + "}" * depth)  # fmt: skip


def _swapped(value: Any) -> Any:
    """Turn a number into a text, a text into a number, a list into an object and back."""
    if isinstance(value, Literal | int | float):
        return str(value)
    if isinstance(value, str):
        return Literal(value) if value.replace(".", "", 1).isdecimal() else [value]
    if isinstance(value, dict):
        return list(value.values())
    return {str(place): one for place, one in enumerate(value)} if value else 0


def _places(document: Any) -> Iterable[tuple[Any, Any]]:
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        if not isinstance(holder, dict | list):
            continue
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            yield holder, key
            waiting.append(value)


def _holds(value: Any, holder: Any) -> bool:
    """Tell whether `holder` is inside `value`: writing that would have no end."""
    return value is holder or any(one[key] is holder for one, key in _places(value))


def _replaced(value: Any, old: Any, new: Any) -> Any:
    if value is old:
        return new
    for holder, key in list(_places(value)):
        if holder[key] is old:
            holder[key] = new
    return value


def written(value: Any) -> str:
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, dict):
        pairs = [*value.items(), *([value.again] if isinstance(value, Twice) else [])]
        return "{" + ",".join(f"{json.dumps(key)}:{written(one)}" for key, one in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)
