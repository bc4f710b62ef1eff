"""The tables. The other modules of this room use them; migrations must lead to exactly these.

`raw_responses`, `prices`, `events`, `publications`, `history_prices` and `history_publications` are
append-only: triggers made by the migrations refuse every update and delete. `outbox` rows are
deleted once published, `raw_frames` when they are old; `symbols`, `shards`, `store`, `processors`,
`processor_states`, `candles`, `dead_letters`, `drops`, `budgets`, `calendars`, `trading_days`,
`jobs`, `feeds` and `feed_symbols` hold what changes; `polls` says which price a job's due time got.
Past prices have tables of their own, so
that bulk never makes the tables and indexes of live prices larger (docs/decisions/0015).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from pricewire.storage.types import ExactDecimal, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# PostgreSQL's "C" and SQLite's BINARY both order by bytes: locks are taken in this one order.
SYMBOL = String(32).with_variant(String(32, collation="C"), "postgresql")
# SQLite numbers only an INTEGER PRIMARY KEY by itself.
BIG_ID = BigInteger().with_variant(Integer, "sqlite")

store = Table(
    "store",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("store_id", Uuid, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("partitions", Integer),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

symbols = Table(
    "symbols",
    metadata,
    Column("symbol", SYMBOL, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
)

raw_responses = Table(
    "raw_responses",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("fetched_at", UtcDateTime, nullable=False),
)

# Frames of feeds, a batch a row; frame i of it has the id after so many (`domain.frames`).
raw_frames = Table(
    "raw_frames",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("first_received_at", UtcDateTime, nullable=False),
    Column("last_received_at", UtcDateTime, nullable=False),
    Column("frames", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

# What a price was made from is written in the same transaction: a raw response, or a frame, whose
# row is its batch's and is deleted one day (docs/decisions/0022). Hence no foreign key.
prices = Table(
    "prices",
    metadata,
    Column("symbol", SYMBOL, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("raw_response_id", Uuid, nullable=False),
    Column("position", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("price", ExactDecimal, nullable=False),
    Column("timestamp", UtcDateTime, nullable=False),
    Column("precision", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("currency", Text),
    Column("fetched_at", UtcDateTime, nullable=False),
    # Null in rows from before there were these columns, as where the provider does not say.
    Column("delayed", Boolean),
    Column("adjusted", Boolean),
    Column("exchange", Text),
    PrimaryKeyConstraint("symbol", "sequence"),
    UniqueConstraint("raw_response_id", "symbol", "position"),
    Index(None, "symbol", "timestamp"),
)

events = Table(
    "events",
    metadata,
    Column("symbol", SYMBOL, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("raw_response_id", Uuid, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("headers", Text, nullable=False),
    PrimaryKeyConstraint("symbol", "sequence"),
)


def _outbox(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("id", BIG_ID, primary_key=True),
        Column("shard", Integer, nullable=False),
        Column("symbol", SYMBOL, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        UniqueConstraint("symbol", "sequence"),
        Index(None, "shard", "id"),
        # Without it the id of a deleted last row would be given again.
        sqlite_autoincrement=True,
    )


def _publications(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("symbol", SYMBOL, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("topic", Text, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("offset", BigInteger),
        Column("published_at", UtcDateTime, nullable=False),
        PrimaryKeyConstraint("symbol", "sequence"),
    )


def _shards(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("shard", Integer, primary_key=True, autoincrement=False),
        Column("topic_id", Text),
        Column("next_offset", BigInteger),
        Column("blocked_since", UtcDateTime),
        Column("last_error", Text),
    )


outbox = _outbox("outbox")
publications = _publications("publications")
shards = _shards("shards")

history_symbols = Table(
    "history_symbols",
    metadata,
    Column("symbol", SYMBOL, primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
)

# A past price and its event in one row: they are written together and never apart. The raw
# response is written in the same transaction; a foreign key would cost each row of bulk a look-up
# to find out what is known.
history_prices = Table(
    "history_prices",
    metadata,
    Column("symbol", SYMBOL, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("identity", LargeBinary, nullable=False),
    Column("raw_response_id", Uuid, nullable=False),
    Column("position", Integer, nullable=False),
    Column("provider", Text, nullable=False),
    Column("price", ExactDecimal, nullable=False),
    Column("timestamp", UtcDateTime, nullable=False),
    Column("nanosecond", SmallInteger, nullable=False),
    Column("precision", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("currency", Text),
    Column("adjusted", Boolean),
    Column("size", ExactDecimal),
    Column("trade_id", Text),
    Column("fetched_at", UtcDateTime, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("headers", Text, nullable=False),
    PrimaryKeyConstraint("symbol", "sequence"),
    # The way to rows by market time as well: an identity alone would be spread over all of it.
    UniqueConstraint("symbol", "timestamp", "nanosecond", "identity"),
)

history_outbox = _outbox("history_outbox")
history_publications = _publications("history_publications")
history_shards = _shards("history_shards")

processors = Table(
    "processors",
    metadata,
    Column("processor", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("topic_id", Text, nullable=False),
    Column("next_offset", BigInteger),
    Column("logged_at", BigInteger),
    Column("counters", Text, nullable=False),
    # How many the topic had: which symbols' states are in which partition follows from it.
    Column("partitions", Integer),
    PrimaryKeyConstraint("processor", "partition"),
)

processor_states = Table(
    "processor_states",
    metadata,
    Column("processor", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("symbol", SYMBOL, nullable=False),
    Column("state", LargeBinary, nullable=False),
    PrimaryKeyConstraint("processor", "symbol", "partition"),
)

# By what is asked for first; the processor and its partition come last.
candles = Table(
    "candles",
    metadata,
    Column("symbol", SYMBOL, nullable=False),
    Column("interval", Text, nullable=False),
    Column("start", UtcDateTime, nullable=False),
    Column("processor", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("end", UtcDateTime, nullable=False),
    Column("open", ExactDecimal, nullable=False),
    Column("high", ExactDecimal, nullable=False),
    Column("low", ExactDecimal, nullable=False),
    Column("close", ExactDecimal, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    PrimaryKeyConstraint("symbol", "interval", "start", "processor", "partition"),
)

RESULTS = {"candles": candles}
"""Tables of processors' results, written with their checkpoints; each is of one partition's owner.

The first three columns of the primary key are what a row is found by (`services.processing`).
"""

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("topic_id", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("outcome", Text, nullable=False),
    # Where a redrive that was broken off is looked for, and since when somebody is at it.
    Column("look_from", BigInteger),
    Column("begun_at", UtcDateTime),
    Column("new_offset", BigInteger),
    PrimaryKeyConstraint("topic_id", "partition", "offset"),
)

drops = Table(
    "drops",
    metadata,
    Column("processor", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("symbol", SYMBOL, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    PrimaryKeyConstraint("processor", "symbol", "sequence", "source"),
)

budgets = Table(
    "budgets",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("counters", Text, nullable=False),
)

calendars = Table(
    "calendars",
    metadata,
    Column("exchange", String(16), primary_key=True),
    Column("tried_at", UtcDateTime),
    # Null until its trading days are known.
    Column("first_day", Date),
    Column("last_day", Date),
    Column("version", Text),
)

trading_days = Table(
    "trading_days",
    metadata,
    Column("exchange", String(16), ForeignKey("calendars.exchange"), nullable=False),
    Column("day", Date, nullable=False),
    Column("opens_at", UtcDateTime, nullable=False),
    Column("closes_at", UtcDateTime, nullable=False),
    Column("rest_begins_at", UtcDateTime),
    Column("rest_ends_at", UtcDateTime),
    Column("early", Boolean, nullable=False),
    PrimaryKeyConstraint("exchange", "day"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    # Only polls are claimed; what streams is the business of `feeds`.
    Column("kind", Text, nullable=False, server_default="poll"),
    Column("config", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("next_due", UtcDateTime, nullable=False),
    Column("next_run", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("leased_until", UtcDateTime),
    Column("tries", BigInteger, nullable=False),
    Column("failures", BigInteger, nullable=False),
    Column("made", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("missed", BigInteger, nullable=False),
    Column("last_poll", UtcDateTime),
    Column("last_error", Text),
)

# Without a foreign key: a deleted job's prices stay, and say whose they were.
polls = Table(
    "polls",
    metadata,
    Column("job_id", Uuid, nullable=False),
    Column("due", UtcDateTime, nullable=False),
    Column("symbol", SYMBOL, nullable=False),
    Column("raw_response_id", Uuid, nullable=False),
    PrimaryKeyConstraint("job_id", "due", "symbol"),
)

feeds = Table(
    "feeds",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("owner", Text),
    Column("epoch", BigInteger, nullable=False),
    Column("leased_until", UtcDateTime),
    Column("status", Text, nullable=False),
)

feed_symbols = Table(
    "feed_symbols",
    metadata,
    Column("provider", Text, nullable=False),
    Column("symbol", SYMBOL, nullable=False),
    Column("state", LargeBinary, nullable=False),
    PrimaryKeyConstraint("provider", "symbol"),
)

APPEND_ONLY = (
    raw_responses,
    prices,
    events,
    publications,
    history_prices,
    history_publications,
)
