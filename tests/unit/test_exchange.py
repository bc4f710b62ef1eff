"""Whose hours and whose day hold for a symbol."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricewire.domain.exchange import (
    COINS,
    EXCHANGES,
    FOREX,
    Exchange,
    Hours,
    exchange_of,
    market_day,
)
from pricewire.domain.quote import Precision


@pytest.mark.parametrize(
    ("symbol", "provider", "name"),
    [
        ("AAPL", "finnhub", "XNYS"),
        ("aapl", "tiingo", "XNYS"),
        ("BRK.B", "finnhub", "XNYS"),
        ("BRK-B", "yahoo", "XNYS"),
        ("BACpE", "massive", "XNYS"),
        ("BAC-PE", "yahoo", "XNYS"),
        ("AAPL:NASDAQ", "twelve_data", "XNYS"),
        ("^GSPC", "yahoo", "XNYS"),
        ("I:SPX", "massive", "XNYS"),
        ("^FTSE", "yahoo", "XLON"),
        ("^N225", "yahoo", "XTKS"),
        ("^VIX", "yahoo", "unknown"),
        ("VOD.L", "yahoo", "XLON"),
        ("BT-A.L", "yahoo", "XLON"),
        ("TSCO.LON", "alpha_vantage", "XLON"),
        ("VOD:LSE", "twelve_data", "XLON"),
        ("VOD:XLON", "twelve_data", "XLON"),
        ("SHOP.TO", "yahoo", "XTSE"),
        ("SAP.DE", "yahoo", "XETR"),
        ("MC.PA", "yahoo", "XPAR"),
        ("7203.T", "yahoo", "XTKS"),
        ("0700.HK", "yahoo", "XHKG"),
        ("M&M.NS", "yahoo", "XBOM"),
        ("300135.SHZ", "alpha_vantage", "XSHG"),
        # To vendors of the US a letter after a dot is a class of shares.
        ("RDS.L", "yahoo", "XLON"),
        ("RDS.L", "alpaca", "XNYS"),
        ("ABC.XX", "yahoo", "unknown"),
        ("ES=F", "yahoo", "unknown"),
        ("12345", "yahoo", "unknown"),
        ("SOMETHING", "yahoo", "unknown"),
        ("BTC/USD", "alpaca", "coins"),
        ("BTC-USD", "yahoo", "coins"),
        ("btcusd", "tiingo", "coins"),
        ("BTCUSDT", "", "coins"),
        ("X:BTCUSD", "massive", "coins"),
        ("BINANCE:BTCUSDT", "finnhub", "coins"),
        ("XBTUSD", "kraken", "coins"),
        ("EUR/USD", "ccxt:bitstamp", "coins"),
        ("EUR/USD", "twelve_data", "forex"),
        ("EURUSD=X", "yahoo", "forex"),
        ("JPY=X", "yahoo", "forex"),
        ("eurusd", "tiingo", "forex"),
        ("C:EURUSD", "massive", "forex"),
        ("OANDA:EUR_USD", "finnhub", "forex"),
        ("FHFX:EUR-USD", "finnhub", "forex"),
        # Metals have a break of their own each day.
        ("XAU/USD", "twelve_data", "unknown"),
    ],
)
def test_a_symbol_tells_its_market(symbol: str, provider: str, name: str) -> None:
    assert exchange_of(symbol, provider).name == name


@pytest.mark.parametrize(
    ("symbol", "moment", "day"),
    [
        # The evening in New York is the next day in UTC already, the morning in Tokyo the last one.
        ("AAPL", datetime(2024, 3, 21, 1, 30, tzinfo=UTC), date(2024, 3, 20)),
        ("7203.T", datetime(2024, 3, 20, 23, 30, tzinfo=UTC), date(2024, 3, 21)),
        ("BTC-USD", datetime(2024, 3, 20, 23, 30, tzinfo=UTC), date(2024, 3, 20)),
        ("XX=F", datetime(2024, 3, 20, 23, 30, tzinfo=UTC), date(2024, 3, 20)),
        # 17:00 in New York: 22:00Z in winter, 21:00Z in summer; Sunday evening is Monday.
        ("EUR/USD", datetime(2024, 1, 10, 21, 59, tzinfo=UTC), date(2024, 1, 10)),
        ("EUR/USD", datetime(2024, 1, 10, 22, 0, tzinfo=UTC), date(2024, 1, 11)),
        ("EUR/USD", datetime(2024, 7, 10, 21, 0, tzinfo=UTC), date(2024, 7, 11)),
        ("EUR/USD", datetime(2024, 7, 14, 21, 0, tzinfo=UTC), date(2024, 7, 15)),
        ("EUR/USD", datetime(2024, 7, 12, 20, 59, tzinfo=UTC), date(2024, 7, 12)),
    ],
)
def test_a_price_is_of_its_markets_day(symbol: str, moment: datetime, day: date) -> None:
    assert market_day(symbol, moment) == day


def test_a_time_known_to_the_day_is_that_day_in_whatever_zone() -> None:
    midnight = datetime(2018, 10, 5, tzinfo=UTC)
    assert market_day("MSFT", midnight) == date(2018, 10, 4)
    assert market_day("MSFT", midnight, precision=Precision.DAY) == date(2018, 10, 5)
    assert market_day("7203.T", midnight, precision=Precision.DAY) == date(2018, 10, 5)


@given(
    exchange=st.sampled_from([COINS, FOREX, *EXCHANGES.values()]),
    # From 1990 to 2050.
    moment=st.integers(631_152_000, 2_524_608_000).map(lambda s: datetime.fromtimestamp(s, UTC)),
)
def test_each_moment_is_in_one_day_also_where_clocks_change(
    exchange: Exchange, moment: datetime
) -> None:
    day = exchange.day_of(moment)
    begin, end = (exchange.begin_of(day + timedelta(days=n)) for n in (0, 1))
    assert begin <= moment < end


def test_every_exchange_goes_by_sessions() -> None:
    assert {one.hours for one in EXCHANGES.values()} == {Hours.SESSIONS}
