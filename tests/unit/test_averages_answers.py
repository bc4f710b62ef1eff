"""Answers for averages: the value, its place on the topic and its window are of one event."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from pricewire.domain.average import AverageSpec, parse_average
from pricewire.services.averages import Averages, Explanation, PublishedAverage, StoredPrice

SPEC = parse_average("sma:5")
AT = datetime(2024, 3, 20, 10, 30, tzinfo=UTC)


class Topic:
    """What was seen on the topic so far."""

    def __init__(self) -> None:
        self.sequence = 5

    def latest(self, symbol: str, spec: AverageSpec) -> PublishedAverage | None:
        assert spec == SPEC
        return PublishedAverage(
            symbol=symbol,
            kind="sma",
            window="5",
            value=Decimal(self.sequence),
            timestamp=AT,
            count=5,
            raw_response_id=UUID(int=self.sequence),
            event_id=f"{symbol}~{self.sequence}",
            topic="moving-averages",
            partition=3,
            offset=self.sequence,
        )

    def symbols(self) -> set[str]:
        return {"AAPL"}


class Checkpoints:
    """The last one is of a later event, whose average comes while the checkpoint is read."""

    def __init__(self, topic: Topic, sequence: int) -> None:
        self.topic = topic
        self.sequence = sequence

    async def of(self, symbol: str) -> dict[str, Explanation]:
        self.topic.sequence = 10
        return {str(SPEC): Explanation(f"{symbol}~{self.sequence}", Decimal(self.sequence), (), ())}

    async def symbols(self) -> set[str]:
        return {"AAPL"}


class NoPrices:
    async def last_prices(
        self, symbol: str, count: int, since: datetime | None
    ) -> list[StoredPrice]:
        raise AssertionError(f"{count} prices of {symbol} since {since} were asked for")


def answers(topic: Topic, sequence: int) -> Averages:
    explanations = Checkpoints(topic, sequence)
    return Averages(
        [SPEC], published=topic, explanations=explanations, prices=NoPrices(), clock=lambda: AT
    )


async def test_what_came_while_the_window_was_waited_for_has_its_place_on_the_topic() -> None:
    [answer] = await answers(Topic(), 10).of("AAPL", kind=None, window=None, explain=True)
    assert answer.explanation is not None
    assert answer.published is not None
    assert answer.explanation.event_id == answer.published.event_id == "AAPL~10"
    assert (answer.value, answer.published.offset) == (Decimal(10), 10)


async def test_the_place_of_another_event_is_never_told_with_a_window() -> None:
    [answer] = await answers(Topic(), 7).of("AAPL", kind=None, window=None, explain=True)
    assert answer.explanation is not None
    assert (answer.explanation.event_id, answer.value) == ("AAPL~7", Decimal(7))
    assert answer.published is None
