"""The anatomy that all providers with a network share: a request, an answer, what is in it.

A vendor's file makes one `Vendor` of three pure functions: symbols → request, answer → prices or
a typed error, URL → symbols. `rest` asks with it, `catalogue` lists them, and `read` is the one
way into every parser. Invariant: no request holds a secret (`Vendor.sign` alone names them), and
no error leaves `read` with one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from pricewire.domain.quote import Bar, Quote, Span
from pricewire.errors import NotAPrice, ProviderError, UnknownSymbol

__all__ = [
    "Answer",
    "Credentials",
    "Parsed",
    "Request",
    "Span",
    "Vendor",
    "masked",
    "no_credentials",
    "read",
    "segment",
]

MAX_ERROR_TEXT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One GET without its secrets; `path` is encoded already (`segment`), `params` are not."""

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What opens the door: reaches the wire and nothing else."""

    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One raw answer, with what its parser has to know of the question.

    Args:
        status: of HTTP; 200 for a frame of a feed.
        symbols: the callers' forms that were asked for; none: whatever the body is about.
        url: without secrets; empty where it is not known, and then the body's shape decides.
        headers: names in lower case.
        secrets: to be kept out of error texts.
    """

    body: bytes
    status: int
    fetched_at: datetime
    symbols: Sequence[str] = ()
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[str] = ()

    @property
    def asked_for(self) -> str:
        """The symbols, for error texts."""
        return ", ".join(self.symbols[:10]) or "such symbol"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an answer holds: quotes and bars in its order, and why symbols have neither."""

    quotes: tuple[Quote, ...] = ()
    bars: tuple[Bar, ...] = ()
    refused: Mapping[str, ProviderError] = field(default_factory=dict)


def no_credentials(_keys: Mapping[str, str]) -> Credentials:
    return Credentials()


def _names_nothing(_url: str) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """What there is to know of one provider; made once, in its file.

    Args:
        name: the provider's name, the event's `source`.
        title: the vendor's name, for people.
        origin: default of `<NAME>_BASE_URL`: scheme and host, without a path.
        needs: names of its keys, as in the settings `<NAME>_<KEY>`, in lower case; none: keyless.
        request: the latest prices of at most `batch` symbols.
        parse: an answer of any endpoint of the vendor → what is in it; raises `ProviderError`
            where that is nothing, and nothing else ever.
        sign: the keys → where they go.
        asked: a URL → the symbols that it names, in the vendor's form.
        history: the bars of a span, None where the vendor has no such endpoint.
        batch: how many symbols one request may name.
    """

    name: str
    title: str
    origin: str
    request: Callable[[Sequence[str]], Request]
    parse: Callable[[Answer], Parsed]
    needs: tuple[str, ...] = ()
    sign: Callable[[Mapping[str, str]], Credentials] = no_credentials
    asked: Callable[[str], tuple[str, ...]] = _names_nothing
    history: Callable[[Span], Request] | None = None
    batch: int = 1


def segment(symbol: str) -> str:
    """Return `symbol` as one segment of a path."""
    return quote(symbol, safe="")


def read(vendor: Vendor, answer: Answer) -> Parsed:
    """Return what is in an answer; quotes carry the symbols that were asked for.

    Raises:
        ProviderError: no price for any of them; the class says why, the text holds no secret.
    """
    try:
        parsed = vendor.parse(answer)
    except ProviderError as error:
        raise _cleaned(error, answer) from None
    if not parsed.quotes and not parsed.bars:
        raise NotAPrice(f"{vendor.title} gave no price")
    for refused in parsed.refused.values():
        _cleaned(refused, answer)
    return parsed


def masked(text: str, secrets: Sequence[str]) -> str:
    """Return `text` without the secrets, in whatever case or encoding a vendor repeats them."""
    for secret in filter(None, secrets):
        for form in (secret, quote(secret, safe="")):
            text = re.sub(re.escape(form), "***", text, flags=re.IGNORECASE)
    return text


def _cleaned(error: ProviderError, answer: Answer) -> ProviderError:
    """Vendors like to repeat a key in what they say: whatever a parser let through ends here."""
    detail = masked(error.detail, answer.secrets)
    if isinstance(error, UnknownSymbol) and not any(one in detail for one in answer.symbols):
        detail = f"{detail} ({answer.asked_for})"
    detail = "".join(char if char.isprintable() else " " for char in detail)
    error.detail = detail[:MAX_ERROR_TEXT]
    error.args = (error.detail,)
    return error
