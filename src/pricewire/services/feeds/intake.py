"""What a feed said and is not recorded yet: frames, the ticks to record, where symbols are then.

`services.feeds.run` puts frames in and takes batches out. Pure but for memory; times are given.
Invariants: a batch's states are those after its last tick, so that what is recorded together fits
together; what waits is counted, so that the feed can be held up before it is too much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pricewire.domain.conflation import Conflation
from pricewire.domain.feed import Tick
from pricewire.domain.feed_ledger import FeedLedger, Judgement
from pricewire.domain.frames import Frame
from pricewire.domain.quote import Quote, RawResponse
from pricewire.domain.stream_job import Wanted
from pricewire.services.feeds.kept import FeedSymbolState

MAX_BATCH_TICKS = 1_000
MAX_BATCH_FRAMES = 4_000
MAX_BATCH_BYTES = 1024 * 1024
MAX_WAITING_FRAMES = 20_000
MAX_WAITING_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Batch:
    """Frames in the order in which they came, and which ticks are to be recorded of them.

    Args:
        ticks: each with the index of its frame; those of a frame together.
        states: of the symbols that it moves.
        since: when its first frame came, by the loop's clock.
    """

    since: float
    frames: list[Frame] = field(default_factory=list)
    ticks: list[tuple[int, Quote]] = field(default_factory=list)
    states: list[FeedSymbolState] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        return (
            len(self.ticks) >= MAX_BATCH_TICKS
            or len(self.frames) >= MAX_BATCH_FRAMES
            or self.size >= MAX_BATCH_BYTES
        )


_Held = tuple[Frame, Quote]
"""A tick that waits for its time, with its frame: that may be recorded before it is."""


@dataclass(frozen=True, slots=True)
class Filled:
    """An answer that had missing trades, and those of them that are to be recorded."""

    raw: RawResponse
    quotes: tuple[Quote, ...]
    states: tuple[FeedSymbolState, ...]


@dataclass(slots=True)
class _Line:
    """A symbol of the feed.

    Args:
        conflation: None where every tick is wanted.
        conflated: ticks that were left out.
        seen_at: when its last tick was received.
    """

    ledger: FeedLedger
    wanted: bool = False
    seen_at: datetime | None = None
    conflation: Conflation[_Held] | None = None
    conflated: int = 0


class Intake:
    """See the module.

    Args:
        states: where the symbols were when they were last recorded.
    """

    def __init__(self, states: Iterable[FeedSymbolState]) -> None:
        self._lines = {state.symbol: _line_of(state) for state in states}
        self._open: Batch | None = None
        self._closed: deque[Batch | Filled] = deque()
        self._touched: set[str] = set()
        self._holding: dict[str, Conflation[_Held]] = {}
        self.waiting_frames = 0
        self.waiting_bytes = 0

    def want(self, wanted: Wanted, now: float) -> None:
        """Say which ticks are wanted from now on, and how often."""
        for symbol, line in self._lines.items():
            if line.wanted and symbol not in wanted:
                line.wanted = False
                self._let_go(line, now)
        for symbol, want in wanted.items():
            line = self._lines.setdefault(symbol, _Line(FeedLedger()))
            if not line.wanted and (line.seen_at is None or line.seen_at < want.since):
                line.ledger.begin_anew()
            line.wanted = True
            self._conflate(line, want.conflate / 1000, now)

    @property
    def full(self) -> bool:
        """Tell whether so much waits that no more should be read."""
        return self.waiting_frames >= MAX_WAITING_FRAMES or self.waiting_bytes >= MAX_WAITING_BYTES

    @property
    def since(self) -> float | None:
        """When the first frame of the batch that is being made came; None where there is none."""
        return self._open.since if self._open else None

    @property
    def ready(self) -> bool:
        """Tell whether a batch is full."""
        return bool(self._closed)

    def take(self, frame: Frame, ticks: Sequence[Tick], now: float) -> None:
        """Put in a frame and what it says."""
        batch = self._begin(now)
        index = self._append(batch, frame)
        for tick in ticks:
            self._tick(batch, index, frame, tick, now)
        if batch.full:
            self._close()

    def take_filling(self, raw: RawResponse, ticks: Iterable[Tick]) -> int:
        """Put in an answer with trades that were missing; return how many of them it had."""
        self._close()
        quotes: list[Quote] = []
        touched: dict[str, _Line] = {}
        for tick in ticks:
            line = self._lines.get(tick.quote.symbol)
            if line is not None and line.ledger.is_missing(tick.number):
                line.ledger.judge(tick)
                quotes.append(tick.quote)
                touched[tick.quote.symbol] = line
        if quotes:
            states = tuple(_state_of(symbol, line) for symbol, line in touched.items())
            self._closed.append(Filled(raw, tuple(quotes), states))
        return len(quotes)

    def release(self, now: float) -> None:
        """Let go of ticks whose time has come."""
        for conflation in list(self._holding.values()):
            if (held := conflation.due(now)) is not None:
                self._give_out(held, now)

    def next_due(self) -> float | None:
        """Return when the next held tick is due."""
        return min((one.free_at for one in self._holding.values()), default=None)

    def pop(self) -> Batch | Filled | None:
        """Take out the oldest; a batch counts as waiting until `done`."""
        if not self._closed:
            self._close()
        return self._closed.popleft() if self._closed else None

    def done(self, batch: Batch | Filled) -> None:
        """Say that it is recorded."""
        if isinstance(batch, Batch):
            self.waiting_frames -= len(batch.frames)
            self.waiting_bytes -= batch.size

    def missing(self) -> list[tuple[str, int, int, datetime | None]]:
        """Return what is missing of symbols whose every tick is wanted, the newest gap first."""
        return [
            (symbol, first, last, line.ledger.since(last))
            for symbol, line in self._lines.items()
            if line.wanted and line.conflation is None
            for first, last in reversed(line.ledger.missing)
        ]

    def give_up(self, symbol: str, first: int, last: int) -> None:
        """Look out no more for missing trades."""
        if line := self._lines.get(symbol):
            line.ledger.give_up(first, last)
            self._touched.add(symbol)

    @property
    def states(self) -> list[FeedSymbolState]:
        """Where all symbols are, what waits included."""
        return [_state_of(symbol, line) for symbol, line in self._lines.items()]

    def _conflate(self, line: _Line, seconds: float, now: float) -> None:
        if (line.conflation.seconds if line.conflation else 0) == seconds:
            return
        self._let_go(line, now)
        line.conflation = Conflation(seconds) if seconds else None

    def _let_go(self, line: _Line, now: float) -> None:
        if line.conflation is not None and (held := line.conflation.flush(now)) is not None:
            self._give_out(held, now)

    def _give_out(self, held: _Held, now: float) -> None:
        frame, quote = held
        self._holding.pop(quote.symbol, None)
        self._touched.add(quote.symbol)
        batch = self._begin(now)
        # Once more: where it is already, other ticks of it may stand before this one.
        batch.ticks.append((self._append(batch, frame), quote))
        if batch.full:
            self._close()

    def _begin(self, now: float) -> Batch:
        if self._open is None:
            self._open = Batch(now)
        return self._open

    def _append(self, batch: Batch, frame: Frame) -> int:
        batch.frames.append(frame)
        batch.size += len(frame[1])
        self.waiting_frames += 1
        self.waiting_bytes += len(frame[1])
        return len(batch.frames) - 1

    def _tick(self, batch: Batch, index: int, frame: Frame, tick: Tick, now: float) -> None:
        symbol = tick.quote.symbol
        line = self._lines.get(symbol)
        if line is None or not line.wanted:
            return
        self._touched.add(symbol)
        line.seen_at = frame[0]
        judgement = line.ledger.judge(tick)
        if judgement is Judgement.REPEAT:
            return
        if line.conflation is None or self._goes_out(line, frame, tick, judgement, now):
            batch.ticks.append((index, tick.quote))

    def _goes_out(
        self, line: _Line, frame: Frame, tick: Tick, judgement: Judgement, now: float
    ) -> bool:
        """Tell whether a conflated symbol's tick is to be recorded now; hold it otherwise."""
        assert line.conflation is not None
        if judgement is Judgement.LATE:
            line.conflated += 1
            return False
        given_out, left_out = line.conflation.offer((frame, tick.quote), now)
        line.conflated += left_out
        if given_out is None:
            self._holding[tick.quote.symbol] = line.conflation
        else:
            self._holding.pop(tick.quote.symbol, None)
        return given_out is not None

    def _close(self) -> None:
        """Begin a new batch with the next frame."""
        batch = self._open
        if batch is None:
            return
        batch.states = [_state_of(symbol, self._lines[symbol]) for symbol in self._touched]
        self._touched.clear()
        self._closed.append(batch)
        self._open = None


def halves(batch: Batch) -> tuple[Batch, Batch]:
    """Return a batch in two, in order; the states are those after the second."""
    middle = len(batch.frames) // 2
    first = [tick for tick in batch.ticks if tick[0] < middle]
    second = [(index - middle, quote) for index, quote in batch.ticks if index >= middle]
    return (
        Batch(batch.since, batch.frames[:middle], first),
        Batch(batch.since, batch.frames[middle:], second, batch.states),
    )


def _line_of(state: FeedSymbolState) -> _Line:
    ledger = FeedLedger(
        last_number=state.last_number,
        last_timestamp=state.last_timestamp,
        ids=dict.fromkeys(state.trade_ids),
        missing=list(state.missing),
        ticks=state.ticks + state.conflated,
        repeats=state.repeats,
        gaps=state.gaps,
        healed=state.filled,
        lost=state.lost,
    )
    return _Line(ledger, seen_at=state.seen_at, conflated=state.conflated)


def _state_of(symbol: str, line: _Line) -> FeedSymbolState:
    ledger = line.ledger
    held = line.conflation is not None and line.conflation.held is not None
    return FeedSymbolState(
        symbol=symbol,
        last_number=ledger.last_number,
        trade_ids=tuple(ledger.ids),
        missing=tuple(ledger.missing),
        ticks=ledger.ticks - line.conflated - held,
        repeats=ledger.repeats,
        conflated=line.conflated,
        gaps=ledger.gaps,
        lost=ledger.lost,
        filled=ledger.healed,
        last_timestamp=ledger.last_timestamp,
        seen_at=line.seen_at,
    )
