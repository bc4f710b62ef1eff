"""Every error that Pricewire raises on purpose, as one tree; open to every room.

PricewireError
├── InvalidRequest              422  the caller's input is wrong; says what would be right
│   ├── InvalidSymbol
│   └── InvalidParameter
├── NotFound                    404  no such event, raw response, job …
├── BodyTooLarge                413
├── PlanExceeded                409  a polling job does not fit into a provider's budget
├── TooManyJobs                 409
├── FeedFull                    409  a vendor takes no more symbols on its connection
├── TooManyReaders              503  of live streams; says how many there may be
├── ProviderError               502  a provider's answer is no price
│   ├── UnknownSymbol           404
│   ├── NotAPrice               502  malformed, artificial, other symbol, zero …
│   │   ├── OtherCurrency       502
│   │   └── OtherKind           502
│   ├── ProviderRefused         502  key or plan; waiting does not help
│   ├── Throttled               503  too many calls; says for how long
│   ├── ProviderDown            503
│   └── ProviderTimedOut        504
├── StoreError                  500
│   ├── StoreUnavailable        503  no connection, or it was lost: the outcome may be unknown
│   ├── StoreBusy               503  a lock was not to be had in time
│   ├── RecordRefused           500  this record can never be stored
│   ├── PollOvertaken           409  a poll's prices came after another process took the job
│   └── FeedOvertaken           409  a feed's ticks came after another process took the feed
├── KafkaTrouble                503
│   ├── KafkaUnavailable        503
│   └── TopicMismatch           503  the topic is not as configured
├── ProcessorError              500
│   ├── OwnerChanged            500  a partition has another owner by now; begin again
│   └── ProcessorBroken         500  a bug of ours stumbled over a record; nothing is skipped
├── CalendarsUnavailable        503  the exchanges' trading days cannot be made just now
├── ShuttingDown                503
└── StartupError                     a setting, port or part that keeps the service from starting

Invariant: `retryable` says whether the very same call may succeed later, `status` is what HTTP
answers, `code` is the stable word for machines, and no message holds a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar


class PricewireError(Exception):
    """Base of the tree.

    Args:
        detail: one sentence for a person: what was wrong and, where known, what would be right.
        retry_after: seconds to wait before the same call makes sense, where known.
    """

    code: str = "internal_error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class InvalidRequest(PricewireError):
    code = "invalid_request"
    title = "Invalid request"
    status = 422


class InvalidSymbol(InvalidRequest):
    code = "invalid_symbol"
    title = "Invalid symbol"


class InvalidParameter(InvalidRequest):
    code = "invalid_parameter"
    title = "Invalid parameter"


class NotFound(PricewireError):
    code = "not_found"
    title = "Not found"
    status = 404


class BodyTooLarge(PricewireError):
    code = "body_too_large"
    title = "Body is too large"
    status = 413


class PlanExceeded(PricewireError):
    """A polling job that its provider's budget cannot hold; `plan` has the numbers."""

    code = "plan_exceeded"
    title = "The plan cannot hold this job"
    status = 409

    def __init__(self, detail: str, plan: object) -> None:
        super().__init__(detail)
        self.plan = plan


class TooManyJobs(PricewireError):
    code = "too_many_jobs"
    title = "Too many jobs"
    status = 409


class FeedFull(PricewireError):
    code = "feed_full"
    title = "The feed takes no more symbols"
    status = 409


class TooManyReaders(PricewireError):
    code = "too_many_readers"
    title = "Too many readers"
    status = 503
    retryable = True

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after=5)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A provider that was asked, or not even that, and why it gave no price."""

    provider: str
    code: str
    detail: str


class ProviderError(PricewireError):
    code = "provider_error"
    title = "Provider error"
    status = 502
    raw: object = None
    """The raw response that says so, where there was one; it is kept like any other."""
    attempts: Sequence[Attempt] = ()
    """All providers that gave no price, where several could have."""


class UnknownSymbol(ProviderError):
    code = "unknown_symbol"
    title = "Unknown symbol"
    status = 404


class NotAPrice(ProviderError):
    """The provider answered, but not with a price for the symbol that was asked for."""

    code = "not_a_price"
    title = "Provider answered something that is no price"


class OtherCurrency(NotAPrice):
    """A price, but in another currency than the stored ones of that symbol."""

    code = "other_currency"
    title = "Provider answered in another currency"


class OtherKind(NotAPrice):
    """A price, but of another kind than the caller asked for."""

    code = "other_kind"
    title = "Provider answered with another kind of price"


class ProviderRefused(ProviderError):
    """The key or the plan does not allow the call: `invalid_key` or `premium_required`."""

    title = "Provider refused the call"

    def __init__(self, detail: str, *, code: str) -> None:
        super().__init__(detail)
        self.code = code


class Throttle(StrEnum):
    """Which limit of a provider was hit; decides how long waiting takes."""

    BURST = "rate_limited_burst"
    MINUTE = "rate_limited_minute"
    HOUR = "rate_limited_hourly"
    DAY = "rate_limited_daily"
    MONTH = "rate_limited_monthly"
    BAN = "banned"
    UNSPECIFIED = "rate_limited"


class Throttled(ProviderError):
    title = "Provider throttled the call"
    status = 503
    retryable = True

    def __init__(self, detail: str, *, throttle: Throttle, retry_after: float) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.throttle = throttle
        self.code = throttle.value


class ProviderDown(ProviderError):
    code = "provider_down"
    title = "Provider is down"
    status = 503
    retryable = True

    def __init__(self, detail: str, *, retry_after: float = 30) -> None:
        super().__init__(detail, retry_after=retry_after)


class ProviderTimedOut(ProviderError):
    code = "provider_timed_out"
    title = "Provider did not answer in time"
    status = 504
    retryable = True


class StoreError(PricewireError):
    code = "store_error"
    title = "Database error"


class StoreUnavailable(StoreError):
    code = "store_unavailable"
    title = "Database is not available"
    status = 503
    retryable = True

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after=5)


class StoreBusy(StoreError):
    code = "store_busy"
    title = "Database is busy"
    status = 503
    retryable = True

    def __init__(self, detail: str) -> None:
        super().__init__(detail, retry_after=1)


class RecordRefused(StoreError):
    code = "record_refused"
    title = "Record cannot be stored"


class PollOvertaken(StoreError):
    """The job was taken over, changed or deleted, or the poll has these prices already."""

    code = "poll_overtaken"
    title = "Another process polls this job"
    status = 409


class FeedOvertaken(StoreError):
    """The feed has another owner by now, or is gone."""

    code = "feed_overtaken"
    title = "Another process has this feed"
    status = 409


class KafkaTrouble(PricewireError):
    code = "kafka_error"
    title = "Kafka error"
    status = 503
    retryable = True


class KafkaUnavailable(KafkaTrouble):
    code = "kafka_unavailable"
    title = "Kafka is not available"


class TopicMismatch(KafkaTrouble):
    code = "topic_mismatch"
    title = "Topic is not as configured"
    retryable = False


class ProcessorError(PricewireError):
    code = "processor_error"
    title = "Processor error"


class OwnerChanged(ProcessorError):
    code = "owner_changed"
    title = "Partition has another owner"
    retryable = True


class ProcessorBroken(ProcessorError):
    code = "processor_broken"
    title = "Processor stumbled over a record"


class CalendarsUnavailable(PricewireError):
    code = "calendars_unavailable"
    title = "Trading days unavailable"
    status = 503
    retryable = True


class ShuttingDown(PricewireError):
    code = "shutting_down"
    title = "Service is shutting down"
    status = 503
    retryable = True

    def __init__(self) -> None:
        super().__init__("the service is shutting down; ask again", retry_after=1)


class StartupError(PricewireError):
    code = "startup_error"
    title = "Cannot start"
