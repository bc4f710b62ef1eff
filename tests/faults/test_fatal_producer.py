"""A processor whose producer fails for good, again and again: it begins again, results stay exact.

librdkafka's own `rd_kafka_test_fatal_error` makes the failure; it is what its tests use.
"""

from __future__ import annotations

import asyncio
import ctypes
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from pricewire.bootstrap_streams import running_processor
from pricewire.kafka.client import Connection
from pricewire.settings import Settings
from pricewire.streams.runner import Processor
from tests.cluster_tools import Cluster
from tests.conftest import open_database
from tests.faults.processor_tools import BROKER, PARTITIONS, Run, assert_exact, running
from tests.postgres_tools import LocalPostgres
from tests.service_tools import eventually

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

OUT_OF_ORDER_SEQUENCE_NUMBER = 45
FAILURES = 5


def fail_for_good(processor: Processor[Any]) -> bool:
    """Let the producer that the processor has now meet a fatal error; False if it has none."""
    outputs = getattr(processor, "_outputs", None)
    producer = getattr(outputs, "_producer", None)
    if producer is None:
        return False
    [library] = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka*")
    # A producer object begins, behind Python's own two words, with librdkafka's handle.
    handle = ctypes.c_void_p.from_address(id(producer) + object.__basicsize__)
    kafka = ctypes.CDLL(str(library))
    kafka.rd_kafka_test_fatal_error.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    failed = kafka.rd_kafka_test_fatal_error(handle, OUT_OF_ORDER_SEQUENCE_NUMBER, b"on purpose")
    return bool(failed == 0)


@asynccontextmanager
async def processor_of(run: Run) -> AsyncIterator[Processor[Any]]:
    settings = Settings.model_validate(
        {name.lower(): value for name, value in run.settings.items()}
    )
    database = open_database(run.database_url)
    connection = Connection(run.servers)
    try:
        async with running_processor("averages", settings, connection, database, PARTITIONS) as (
            processor,
            _,
        ):
            yield processor
    finally:
        await database.aclose()


async def holds(what: Callable[[], bool]) -> None:
    await asyncio.to_thread(eventually, what, 60)


async def failing(run: Run) -> list[str | None]:
    """Process to the end of the feed while the producer fails; return what was said of it."""
    choice, said = random.Random(3), []
    async with processor_of(run) as processor:
        for number in range(FAILURES):
            await holds(lambda: processor.status.phase == "running")
            await asyncio.sleep(choice.uniform(0.3, 1.2))
            assert fail_for_good(processor)
            await holds(lambda: processor.status.restarts > number)  # noqa: B023
            said.append(processor.status.last_error)
        await holds(lambda: not run.fed.is_alive() and run.is_done())
    return said


def test_a_producer_that_fails_for_good(
    postgres: LocalPostgres, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        Cluster(tmp_path_factory.mktemp("fatal"), brokers=1, properties=BROKER) as cluster,
        running(cluster, postgres, tmp_path, events=20_000, seconds=8) as run,
    ):
        said = asyncio.run(asyncio.wait_for(failing(run), 100))
        assert len(said) == FAILURES
        # Which of its consequences is met first is chance: the error, a refusal, a purged record.
        words = ("on purpose", "Fatal error", "Purged")
        assert all(one and any(word in one for word in words) for one in said), said
        assert_exact(run, cluster)
