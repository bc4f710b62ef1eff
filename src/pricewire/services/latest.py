"""The main job: a symbol's latest price, recorded, with what there is to know of its freshness.

The API calls it. Invariant: what is answered was recorded first; a stored price is answered only
where the caller allows it by its age, or when nobody has another, and then it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pricewire.domain.event import EventId, EventState, Publication, RecordedPrice
from pricewire.domain.quote import PriceKind
from pricewire.domain.session import Session
from pricewire.domain.symbol import parse_symbol
from pricewire.errors import Attempt, ProviderError, StoreError
from pricewire.services.asking import Asked, Asking, Wanted
from pricewire.services.receipts import Receipts
from pricewire.services.sessions import Sessions
from pricewire.services.stored import Stored


@dataclass(frozen=True, slots=True)
class LatestAnswer:
    """A recorded price and what is known of its event's publication.

    Args:
        age_seconds: since the market's time.
        session: of the symbol's market, now.
        cached: it was stored before it was asked for.
        stale_reason: why it had to be a stored one, None where it is as fresh as was asked for.
        attempts: who could not give a price, in order.
    """

    price: RecordedPrice
    state: EventState
    publication: Publication | None
    age_seconds: float = 0.0
    session: Session = Session.UNKNOWN
    cached: bool = False
    stale_reason: str | None = None
    attempts: Sequence[Attempt] = ()


class LatestPrice:
    """See the module."""

    def __init__(
        self,
        asking: Asking,
        *,
        stored: Stored,
        receipts: Receipts,
        sessions: Sessions,
        clock: Callable[[], datetime],
    ) -> None:
        self._asking = asking
        self._stored = stored
        self._receipts = receipts
        self._sessions = sessions
        self._clock = clock
        self._published: dict[str, Publication] = {}
        """Of stored prices that were answered, by symbol."""

    async def __call__(
        self,
        symbol: str,
        *,
        provider: str | None = None,
        kind: PriceKind | None = None,
        wait_seconds: float = 0,
        max_age: float = 0,
        allow_stale: bool = False,
    ) -> LatestAnswer:
        """Answer a stored price of at most `max_age` seconds, or fetch and record one.

        Args:
            wait_seconds: how long to wait for the delivery report.
            max_age: since we had the answer (`fetched_at`).
            allow_stale: where nobody has a price, the last stored one will do.

        Raises:
            InvalidRequest: no such provider, or no symbol.
            ProviderError: no provider's answer is a price for that symbol.
            StoreError: the price could not be recorded, and is not published.
        """
        wanted = self._asking.wanted(provider, kind)
        symbol = parse_symbol(symbol)
        if max_age > 0 and (price := await self._fresh(symbol, wanted, max_age)) is not None:
            return await self._stored_answer(price, wait_seconds)
        try:
            asked = await self._asking.price(symbol, wanted)
        except ProviderError as error:
            price = await self._stored.last(symbol) if allow_stale else None
            if price is None or not _fits(price, wanted, any_source=provider is None):
                raise
            return await self._stored_answer(price, wait_seconds, error, wanted)
        return await self._fetched_answer(asked, wait_seconds)

    async def together(
        self,
        symbols: Sequence[str],
        *,
        provider: str | None = None,
        kind: PriceKind | None = None,
        max_age: float = 0,
    ) -> None:
        """Begin asking for several symbols at once; a call for each of them then joins in."""
        wanted = self._asking.wanted(provider, kind)
        needed = [
            symbol
            for symbol in dict.fromkeys(symbols)
            if max_age <= 0 or await self._fresh(symbol, wanted, max_age) is None
        ]
        self._asking.ask_together(needed, wanted)

    async def aclose(self) -> None:
        """Stop what is under way."""
        await self._asking.aclose()

    async def _fetched_answer(self, asked: Asked, wait_seconds: float) -> LatestAnswer:
        state, publication = EventState.QUEUED, None
        if wait_seconds > 0:
            state, publication = await self._waited(asked.price.event_id, wait_seconds)
        return self._answer(asked.price, state, publication, attempts=asked.attempts)

    async def _stored_answer(
        self,
        price: RecordedPrice,
        wait_seconds: float,
        error: ProviderError | None = None,
        wanted: Wanted | None = None,
    ) -> LatestAnswer:
        attempts: Sequence[Attempt] = ()
        if error is not None and wanted is not None:
            alone = Attempt(wanted.names[0], error.code, error.detail)
            attempts = error.attempts or (alone,)
        state, publication = await self._known(price.event_id, wait_seconds)
        reason = None if error is None else f"{error.code}: {error.detail}"
        return self._answer(
            price, state, publication, cached=True, stale_reason=reason, attempts=attempts
        )

    def _answer(
        self,
        price: RecordedPrice,
        state: EventState,
        publication: Publication | None,
        *,
        cached: bool = False,
        stale_reason: str | None = None,
        attempts: Sequence[Attempt] = (),
    ) -> LatestAnswer:
        quote = price.draft.quote
        now = self._clock()
        age = (now - quote.timestamp).total_seconds()
        return LatestAnswer(
            price,
            state,
            publication,
            max(0.0, age),
            self._sessions.session_at(quote.symbol, price.draft.provider, now),
            cached,
            stale_reason,
            attempts,
        )

    async def _fresh(self, symbol: str, wanted: Wanted, max_age: float) -> RecordedPrice | None:
        """Return a stored price that is young enough, from memory where there is one."""
        price = self._stored.here(symbol)
        if price is not None and self._is_fresh(price, wanted, max_age):
            return price
        price = await self._stored.last(symbol)
        return price if price is not None and self._is_fresh(price, wanted, max_age) else None

    def _is_fresh(self, price: RecordedPrice, wanted: Wanted, max_age: float) -> bool:
        age = (self._clock() - price.draft.fetched_at).total_seconds()
        # A price from later than now was fetched by a clock that has been set back since.
        return abs(age) <= max_age and _fits(price, wanted)

    async def _known(
        self, event_id: EventId, wait_seconds: float
    ) -> tuple[EventState, Publication | None]:
        """Return what became of a stored price's event; remembers what will not change."""
        known = self._published.get(event_id.symbol)
        if known is not None and known.event_id == event_id:
            return EventState.PUBLISHED, known
        state, publication = await self._waited(event_id, wait_seconds)
        if publication is not None:
            self._published[event_id.symbol] = publication
        return state, publication

    async def _waited(
        self, event_id: EventId, wait_seconds: float
    ) -> tuple[EventState, Publication | None]:
        try:
            if wait_seconds > 0:
                receipt = await self._receipts.wait(event_id, wait_seconds)
            else:
                receipt = await self._receipts.receipt(event_id)
        except StoreError:
            # It is recorded; only what became of its event cannot be read just now.
            return EventState.QUEUED, None
        return receipt.state, receipt.publication


def _fits(price: RecordedPrice, wanted: Wanted, *, any_source: bool = False) -> bool:
    """Tell whether a stored price is of a provider and a kind that are wanted."""
    if wanted.kind is not None and price.draft.quote.kind is not wanted.kind:
        return False
    return any_source or price.draft.provider in wanted.names
