"""Composes providers from the settings, lists them, and reads stored bodies with their parsers.

`bootstrap` makes the service's providers here; the CLI and the web list them. Invariant: a key is
handed to its provider only, and what is listed says whether it is set, never what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from pricewire.errors import InvalidParameter
from pricewire.providers.anatomy import Answer, Parsed, Vendor
from pricewire.providers.catalogue import OTHER_NAMES, VENDORS
from pricewire.providers.ccxt import CcxtProvider
from pricewire.providers.feed_catalogue import FEEDS
from pricewire.providers.history import History
from pricewire.providers.rest import RestProvider
from pricewire.providers.stored import Frames, read_stored
from pricewire.services.fetching import Provider
from pricewire.settings import CCXT, Settings

__all__ = ["Frames", "Listed", "Parsed", "listed", "made", "parse_stored"]

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A provider, and what there is to know of it before it is asked.

    Args:
        needs: names of the settings that it does not work without.
        configured: they are set: it can be asked.
        default: it is asked where nobody names another.
        base_url: where it is asked; None where it asks nobody.
        batch: how many symbols one call may name.
        history: it gives bars.
        feed: it has a live feed.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    configured: bool
    default: bool
    base_url: str | None
    batch: int
    history: bool
    feed: bool


def made(settings: Settings, clock: Clock) -> dict[str, Provider]:
    """Make every provider that is configured.

    Raises:
        StartupError: a file or an extra is missing.
    """
    providers: dict[str, Provider] = {
        "history": History(
            file=settings.history_file,
            interval_seconds=settings.history_interval_seconds,
            clock=clock,
        )
    }
    for vendor in VENDORS.values():
        if (keys := _keys(settings, vendor)) is not None:
            providers[vendor.name] = RestProvider(
                vendor,
                keys=keys,
                base_url=_base_url(settings, vendor),
                timeout_seconds=settings.provider_timeout_seconds,
                clock=clock,
            )
    for exchange in settings.exchanges:
        providers[f"{CCXT}{exchange}"] = CcxtProvider(
            exchange, timeout_seconds=settings.provider_timeout_seconds, clock=clock
        )
    return providers


def listed(settings: Settings) -> list[Listed]:
    """Return every provider that there is, in a fixed order."""
    vendors = [_listed(settings, vendor) for vendor in VENDORS.values()]
    history = Listed(
        name="history",
        title="Recorded history",
        needs=(),
        configured=True,
        default=settings.provider == "history",
        base_url=None,
        batch=1,
        history=False,
        feed=False,
    )
    return [history, *vendors, *(_listed_exchange(settings, one) for one in settings.exchanges)]


def parse_stored(
    provider: str, body: bytes, *, status: int, url: str, symbols: tuple[str, ...], now: datetime
) -> Parsed | Frames:
    """Read a stored body of a provider.

    Raises:
        InvalidParameter: there is no such provider.
        ProviderError: the body is no price; the class says why.
    """
    vendor = VENDORS.get(OTHER_NAMES.get(provider, provider))
    if vendor is None:
        known = ", ".join(VENDORS)
        raise InvalidParameter(f"there is no parser of {provider[:64]!r}; there is {known}")
    answer = Answer(body=body, status=status, fetched_at=now, symbols=symbols, url=url)
    return read_stored(vendor, answer)


def keys_of(settings: Settings, name: str, needs: Sequence[str]) -> dict[str, str] | None:
    """Return a provider's keys by what it needs, None where one is missing."""
    keys = {}
    for need in needs:
        value = getattr(settings, f"{name}_{need}")
        if not isinstance(value, SecretStr):
            return None
        keys[need] = value.get_secret_value()
    return keys


def _keys(settings: Settings, vendor: Vendor) -> dict[str, str] | None:
    return keys_of(settings, vendor.name, vendor.needs)


def _base_url(settings: Settings, vendor: Vendor) -> str:
    return str(getattr(settings, f"{vendor.name}_base_url"))


def _listed(settings: Settings, vendor: Vendor) -> Listed:
    return Listed(
        name=vendor.name,
        title=vendor.title,
        needs=tuple(f"{vendor.name}_{need}".upper() for need in vendor.needs),
        configured=_keys(settings, vendor) is not None,
        default=settings.provider == vendor.name,
        base_url=_base_url(settings, vendor),
        batch=vendor.batch,
        history=vendor.history is not None,
        feed=vendor.name in FEEDS,
    )


def _listed_exchange(settings: Settings, exchange: str) -> Listed:
    return Listed(
        name=f"{CCXT}{exchange}",
        title=f"{exchange} by ccxt",
        needs=(),
        configured=True,
        default=settings.provider == f"{CCXT}{exchange}",
        base_url=None,
        batch=1,
        history=False,
        feed=False,
    )
