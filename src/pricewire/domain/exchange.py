"""Whose hours and whose calendar day hold for a symbol: coins', foreign exchange's, an exchange's.

`domain.session` tells by it whether a market is open, daily bars to which day a price belongs.
Invariant: what a symbol does not tell stays unknown; nothing is guessed. Forms are Yahoo's
(`VOD.L`, `7203.T`, `^FTSE`), Alpha Vantage's (`TSCO.LON`), Twelve Data's (`VOD:LSE`, `VOD:XLON`),
Finnhub's (`BINANCE:BTCUSDT`), Massive's (`I:SPX`, `X:BTCUSD`) and the plain ones of the US.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from pricewire.domain.pair import FIAT, METALS, Pair, is_money, pair_of
from pricewire.domain.quote import Precision


class Hours(StrEnum):
    """How a market's hours are known.

    `weekdays`: around the clock from Monday to Friday; `sessions`: by the exchange's calendar.
    """

    ALWAYS = "always"
    WEEKDAYS = "weekdays"
    SESSIONS = "sessions"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A market by its hours.

    Args:
        name: the MIC (ISO 10383) of an exchange: XNYS for all of the US.
        zone: whose clock its days are of.
        ahead: how long before midnight its day begins.
    """

    name: str
    hours: Hours
    zone: tzinfo = UTC
    ahead: timedelta = timedelta(0)

    def day_of(self, moment: datetime) -> date:
        """Return the market's day that an aware `moment` is in."""
        return (moment.astimezone(self.zone).replace(tzinfo=None) + self.ahead).date()

    def begin_of(self, day: date) -> datetime:
        """Return when a day of the market begins, in UTC; it ends when the next one begins."""
        local = datetime.combine(day, time()) - self.ahead
        return local.replace(tzinfo=self.zone).astimezone(UTC)


COINS: Final = Exchange("coins", Hours.ALWAYS)
FOREX: Final = Exchange("forex", Hours.WEEKDAYS, ZoneInfo("America/New_York"), timedelta(hours=7))
"""Its day ends at 17:00 in New York, as banks settle it: Monday's begins on Sunday evening."""
UNKNOWN: Final = Exchange("unknown", Hours.UNKNOWN)

_ZONES: Final = {
    "ASEX": "Europe/Athens",
    "BVMF": "America/Sao_Paulo",
    "XAMS": "Europe/Amsterdam",
    "XASX": "Australia/Sydney",
    "XBKK": "Asia/Bangkok",
    "XBOM": "Asia/Kolkata",
    "XBRU": "Europe/Brussels",
    "XBUD": "Europe/Budapest",
    "XBUE": "America/Argentina/Buenos_Aires",
    "XCSE": "Europe/Copenhagen",
    "XDUB": "Europe/Dublin",
    "XDUS": "Europe/Berlin",
    "XETR": "Europe/Berlin",
    "XFRA": "Europe/Berlin",
    "XHAM": "Europe/Berlin",
    "XHEL": "Europe/Helsinki",
    "XHKG": "Asia/Hong_Kong",
    "XICE": "Atlantic/Reykjavik",
    "XIDX": "Asia/Jakarta",
    "XIST": "Europe/Istanbul",
    "XJSE": "Africa/Johannesburg",
    "XKLS": "Asia/Kuala_Lumpur",
    "XKRX": "Asia/Seoul",
    "XLIS": "Europe/Lisbon",
    "XLIT": "Europe/Vilnius",
    "XLON": "Europe/London",
    "XMAD": "Europe/Madrid",
    "XMEX": "America/Mexico_City",
    "XMIL": "Europe/Rome",
    "XNYS": "America/New_York",
    "XNZE": "Pacific/Auckland",
    "XOSL": "Europe/Oslo",
    "XPAR": "Europe/Paris",
    "XPRA": "Europe/Prague",
    "XRIS": "Europe/Riga",
    "XSAU": "Asia/Riyadh",
    "XSES": "Asia/Singapore",
    "XSGO": "America/Santiago",
    "XSHG": "Asia/Shanghai",
    "XSTO": "Europe/Stockholm",
    "XSTU": "Europe/Berlin",
    "XSWX": "Europe/Zurich",
    "XTAE": "Asia/Tel_Aviv",
    "XTAI": "Asia/Taipei",
    "XTAL": "Europe/Tallinn",
    "XTKS": "Asia/Tokyo",
    "XTSE": "America/Toronto",
    "XWAR": "Europe/Warsaw",
    "XWBO": "Europe/Vienna",
}
EXCHANGES: Final = {
    mic: Exchange(mic, Hours.SESSIONS, ZoneInfo(zone)) for mic, zone in _ZONES.items()
}
"""By MIC. Second boards are filed under the first: XTSE has Toronto's ventures, XSHG Shenzhen."""


def _table(text: str) -> dict[str, Exchange]:
    words = text.split()
    return {
        name: EXCHANGES[mic] for name, mic in zip(words[::2], words[1::2], strict=True)
    }  # fmt: skip


_SUFFIXES: Final = _table(
    "L XLON IL XLON TO XTSE V XTSE DE XETR F XFRA HM XHAM DU XDUS SG XSTU PA XPAR AS XAMS BR XBRU "
    "LS XLIS MI XMIL MC XMAD IR XDUB VI XWBO SW XSWX ST XSTO HE XHEL CO XCSE OL XOSL IC XICE "
    "WA XWAR PR XPRA BD XBUD AT ASEX IS XIST TA XTAE JO XJSE SA BVMF MX XMEX BA XBUE SN XSGO "
    "T XTKS HK XHKG SS XSHG SZ XSHG KS XKRX KQ XKRX TW XTAI TWO XTAI SI XSES AX XASX NZ XNZE "
    "BO XBOM NS XBOM JK XIDX KL XKLS BK XBKK SR XSAU TL XTAL RG XRIS VS XLIT "
    "LON XLON TRT XTSE TRV XTSE DEX XETR BSE XBOM SHH XSHG SHZ XSHG"
)
_NAMED: Final = EXCHANGES | _table("LSE XLON TSX XTSE NASDAQ XNYS NYSE XNYS XNAS XNYS XNGS XNYS")
_INDICES: Final = _table(
    "GSPC XNYS SPX XNYS DJI XNYS IXIC XNYS NDX XNYS RUT XNYS NYA XNYS OEX XNYS "
    "GSPTSE XTSE FTSE XLON FTMC XLON GDAXI XETR MDAXI XETR TECDAX XETR FCHI XPAR AEX XAMS BFX XBRU "
    "IBEX XMAD SSMI XSWX N225 XTKS HSI XHKG KS11 XKRX TWII XTAI STI XSES AXJO XASX NZ50 XNZE "
    "BSESN XBOM NSEI XBOM JKSE XIDX KLSE XKLS BVSP BVMF MXX XMEX MERV XBUE"
)

_COINS_ONLY: Final = ("coinbase", "binance", "kraken", "ccxt:")
_US_ONLY: Final = frozenset(("alpaca", "massive", "tiingo"))
_COIN_PREFIXES: Final = frozenset(
    ("X", "BINANCE", "BINANCEUS", "BITFINEX", "BITSTAMP", "COINBASE", "GEMINI", "KRAKEN", "KUCOIN")
)
_FOREX_PREFIXES: Final = frozenset(("C", "OANDA", "FHFX", "FXCM", "FOREX"))
# Of at least six letters: no share of the US has as many.
_JOINED: Final = re.compile(r"([A-Z0-9]{2,10}?)(FDUSD|USDT|USDC|BUSD|[A-Z]{3})")
_US: Final = re.compile(r"[A-Z]{1,5}|[A-Z]{1,5}-(?:P[A-Z]?|WT|UN|RT)|[A-Z]{1,4}p[A-Z]?")
_US_CLASS: Final = re.compile(r"[A-Z]{1,5}[.-][A-Z]")


@lru_cache(4096)
def exchange_of(symbol: str, provider: str = "") -> Exchange:
    """Return the market that a symbol's price is of.

    Args:
        provider: who gives the price, where that is known: exchanges of coins trade nothing else,
            and to vendors of the US a letter after a dot is a class of shares, not London.
    """
    if provider.startswith(_COINS_ONLY):
        return COINS
    upper = symbol.upper() if symbol.islower() else symbol
    prefix, colon, rest = upper.partition(":")
    if colon:
        return _of_prefixed(prefix, rest)
    if upper.startswith("^"):
        return _INDICES.get(upper[1:], UNKNOWN)
    if (pair := pair_of(upper) or _joined(upper)) is not None:
        return _of_pair(pair)
    return _of_share(upper, provider)


def market_day(
    symbol: str, moment: datetime, *, provider: str = "", precision: Precision = Precision.SECOND
) -> date:
    """Return the day of its market that a price is of; the day in UTC where that is unknown.

    Args:
        moment: the market's time, aware.
        precision: of `moment`. One known to the day only is that trading day already, in whatever
            zone: 2018-10-05 at 00:00:00Z is no evening of the 4th in New York.
    """
    if precision is Precision.DAY:
        return moment.astimezone(UTC).date()
    return exchange_of(symbol, provider).day_of(moment)


def _of_prefixed(prefix: str, rest: str) -> Exchange:
    """Tell BINANCE:BTCUSDT, X:BTCUSD, OANDA:EUR_USD, C:EURUSD, I:SPX and VOD:LSE apart."""
    if prefix == "I":
        return _INDICES.get(rest, UNKNOWN)
    if prefix in _COIN_PREFIXES:
        return COINS
    if prefix in _FOREX_PREFIXES:
        pair = pair_of(rest.replace("_", "/")) or _joined(rest)
        return UNKNOWN if pair is None else _of_pair(pair)
    return _NAMED.get(rest, UNKNOWN)


def _joined(symbol: str) -> Pair | None:
    """Return both codes of BTCUSD."""
    match = _JOINED.fullmatch(symbol) if len(symbol) >= 6 else None
    return Pair(match[1], match[2]) if match and is_money(match[2]) else None


def _of_pair(pair: Pair) -> Exchange:
    if not is_money(pair.quote) or METALS & set(pair):
        return UNKNOWN
    if pair.base in FIAT:
        return FOREX if pair.quote in FIAT else COINS
    return COINS


def _of_share(symbol: str, provider: str) -> Exchange:
    if provider in _US_ONLY and _US_CLASS.fullmatch(symbol):
        return EXCHANGES["XNYS"]
    base, _, suffix = symbol.rpartition(".")
    if base and suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    us = _US.fullmatch(symbol) or _US_CLASS.fullmatch(symbol)
    return EXCHANGES["XNYS"] if us else UNKNOWN
