"""Any vendor over REST: symbols → request → raw answer → quotes; built by the composition root.

Invariant: the raw answer is the vendor's, byte for byte but for keys in it, and each quote is for
a symbol that was asked for; keys are in no URL that is kept, no log and no exception.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote_plus

from pricewire.domain.quote import Fetched, RawResponse
from pricewire.errors import InvalidParameter, NotAPrice, ProviderError
from pricewire.providers.anatomy import Answer, Parsed, Request, Span, Vendor, masked, read
from pricewire.providers.http import HttpClient

SHORTEST_KEY = 8


class RestProvider:
    """Fulfils `services.fetching.Provider` for one vendor.

    Args:
        keys: by the names in `Vendor.needs`; go where `Vendor.sign` says and nowhere else.
        base_url: the origin.
        timeout_seconds: for a whole call.
        clock: now, aware UTC.
    """

    def __init__(
        self,
        vendor: Vendor,
        *,
        keys: Mapping[str, str],
        base_url: str,
        timeout_seconds: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._vendor = vendor
        self._secrets = tuple(keys.values())
        self._credentials = vendor.sign(keys)
        self._http = HttpClient(
            provider=vendor.name, origin=base_url, timeout_seconds=timeout_seconds, clock=clock
        )

    @property
    def name(self) -> str:
        return self._vendor.name

    @property
    def batch(self) -> int:
        """How many symbols one call may name."""
        return self._vendor.batch

    async def fetch(self, symbol: str) -> Fetched:
        """Ask for the latest price of `symbol`; the answer holds exactly one quote.

        Raises:
            ProviderError: the answer is not a price for that symbol, or there was none.
        """
        fetched = await self.fetch_many((symbol,))
        if len(fetched.quotes) != 1:
            reason = fetched.refused.get(symbol)
            error = reason or NotAPrice(f"{self._vendor.title} gave no single price for {symbol}")
            error.raw = fetched.raw
            raise error
        return fetched

    async def fetch_many(self, symbols: Sequence[str]) -> Fetched:
        """Ask for at most `batch` symbols in one call.

        Raises:
            ProviderError: there is a price for none of them.
        """
        if len(symbols) > self.batch:
            raise InvalidParameter(f"{self.name} takes at most {self.batch} symbols a call")
        raw = await self.ask(self._vendor.request(symbols))
        return self._fetched(raw, symbols)

    async def history(self, span: Span) -> Fetched:
        """Ask for the bars of a span, as many as the vendor gives in one answer.

        Raises:
            InvalidParameter: the vendor has no such history.
            ProviderError: there are no bars.
        """
        if self._vendor.history is None:
            raise InvalidParameter(f"{self.name} has no history")
        raw = await self.ask(self._vendor.history(span))
        return self._fetched(raw, (span.symbol,))

    async def ask(self, request: Request) -> RawResponse:
        """Make one call, whatever the answer says.

        Raises:
            ProviderDown, ProviderTimedOut: there was no answer.
        """
        return await self._http.get(
            request.path,
            request.params,
            self._credentials.params,
            headers={**request.headers, **self._credentials.headers},
        )

    def read(self, raw: RawResponse, symbols: Sequence[str]) -> Parsed:
        """Return what an answer to a request for `symbols` holds.

        Raises:
            ProviderError: no price for any of them.
        """
        answer = Answer(
            body=raw.body,
            status=raw.status,
            fetched_at=raw.fetched_at,
            symbols=symbols,
            url=raw.url,
            headers=dict(raw.headers),
            secrets=self._secrets,
        )
        return read(self._vendor, answer)

    async def aclose(self) -> None:
        await self._http.aclose()

    def _fetched(self, raw: RawResponse, symbols: Sequence[str]) -> Fetched:
        try:
            parsed = self.read(raw, symbols)
        except ProviderError as error:
            error.raw = without_secrets(raw, self._secrets)
            raise
        return Fetched(
            without_secrets(raw, self._secrets), parsed.quotes, parsed.bars, parsed.refused
        )


def without_secrets(raw: RawResponse, secrets: Sequence[str]) -> RawResponse:
    """Return an answer as it may be kept."""
    body = cleaned(raw.body, secrets)
    return raw if body == raw.body else replace(raw, body=body)


def cleaned(body: bytes, secrets: Sequence[str]) -> bytes:
    """Return what a vendor sent as it may be kept: vendors like to repeat a key that they refuse.

    What is shorter than any vendor's key (`demo`) is a word like others, and stays.
    """
    forms = {
        form.encode().decode("latin-1")
        for secret in secrets
        if len(secret) >= SHORTEST_KEY
        for form in (
            secret,
            quote_plus(secret),
            json.dumps(secret)[1:-1],
            secret.replace("/", "\\/"),
        )
    }
    text = body.decode("latin-1")
    return masked(text, sorted(forms, key=len, reverse=True)).encode("latin-1")
