"""Processors that are killed, stopped, frozen and joined by others: averages stay exact.

Real processes on a real broker and PostgreSQL, while events come in. `PRICEWIRE_TEST_KILLS`,
`PRICEWIRE_TEST_EVENTS` and `PRICEWIRE_TEST_SCHEDULES` make it longer.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_tools import Cluster
from tests.faults.nursery import Forked, warm
from tests.faults.processor_tools import (
    BROKER,
    PARTITIONS,
    Run,
    assert_exact,
    headers_of,
    running,
    sum_of,
)
from tests.postgres_tools import LocalPostgres
from tests.service_tools import Service, eventually
from tests.service_tools import running as service_running

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.postgres]

KILLS = int(os.environ.get("PRICEWIRE_TEST_KILLS", "6"))
EVENTS = int(os.environ.get("PRICEWIRE_TEST_EVENTS", "60000"))
SCHEDULES = int(os.environ.get("PRICEWIRE_TEST_SCHEDULES", "4"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    warm()
    folder = tmp_path_factory.mktemp("processors")
    with Cluster(folder, brokers=1, properties=BROKER) as cluster:
        yield cluster


@pytest.mark.timeout(120 + 10 * KILLS)
def test_averages_stay_exact_while_processors_are_killed(
    cluster: Cluster, postgres: LocalPostgres, tmp_path: Path
) -> None:
    choice = random.Random(20)
    with running(cluster, postgres, tmp_path, events=EVENTS, seconds=KILLS * 3) as run:
        run.add(), run.add()
        for _ in range(KILLS):
            time.sleep(choice.uniform(0.5, 4.5))
            victim = choice.choice(run.processors)
            assert victim.runs, victim.log[-3000:]
            victim.kill()
            run.look()
            victim.start()
        run.fed.join()
        eventually(run.is_done, 240, pause=0.5)
        assert_exact(run, cluster)
        # Who is killed before it owns anything proves nothing.
        assert sum(one.epoch for one in run.looked[-PARTITIONS:]) >= PARTITIONS + KILLS
        assert_reported(run, tmp_path)


def assert_reported(run: Run, folder: Path) -> None:
    """What was dropped, late and missing is told by `GET /v1/lag`, as the database has it."""
    expected = sum_of([one.counters for one in run.looked[-PARTITIONS:]])
    assert min(expected.repeats, expected.healed, expected.missing) > 0
    with service_running(Service(folder / "api", run.settings, command="api")) as api:
        told = api.json("/v1/lag")
        assert (told["behind"], len(told["lag"])) == (0, PARTITIONS)
        for name in ("taken", "repeats", "healed", "missing"):
            assert sum(one["counters"][name] for one in told["lag"]) == getattr(expected, name)


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_averages_stay_exact_under_any_schedule(
    cluster: Cluster, postgres: LocalPostgres, tmp_path: Path, seed: int
) -> None:
    """Joins, clean leaves, kills, and freezes past the take-over, with either group protocol."""
    choice, protocol = random.Random(seed), ("classic", "consumer")[seed % 2]
    feed = {"events": 30_000, "seconds": 10, "seed": seed}
    with running(cluster, postgres, tmp_path, protocol=protocol, **feed) as run:
        run.add(), run.add()
        frozen: list[tuple[float, Forked]] = []
        while run.fed.is_alive():
            await_progress(run)
            time.sleep(choice.uniform(0, 0.4))
            thaw(frozen)
            one_move(run, choice, frozen)
        run.fed.join()
        eventually(lambda: thaw(frozen), 10)
        run.add()
        eventually(run.is_done, 90, pause=0.3)
        assert_exact(run, cluster)


def await_progress(run: Run) -> None:
    """Wait for another checkpoint, so that moves do not only keep each other from working."""
    before = {one.partition: one.next_offset for one in run.look()}
    give_up = time.monotonic() + 3
    while time.monotonic() < give_up and run.fed.is_alive():
        time.sleep(0.1)
        if any(one.next_offset > before.get(one.partition, 0) for one in run.look()):
            return


def one_move(run: Run, choice: random.Random, frozen: list[tuple[float, Forked]]) -> None:
    awake = [one for one in run.alive if one not in [cold for _, cold in frozen]]
    move = choice.choice(["join", "leave", "kill", "kill", "freeze"])
    if move == "join" or not awake:
        if len(run.alive) < 4:
            run.add()
        return
    victim = choice.choice(awake)
    if move == "leave":
        # -SIGTERM: so early that nobody listened to signals yet.
        assert victim.stop(30) in (0, -signal.SIGTERM), victim.log[-3000:]
    elif move == "kill":
        victim.kill()
    else:
        victim.signal(signal.SIGSTOP)
        frozen.append((time.monotonic() + choice.uniform(1, 4), victim))


def thaw(frozen: list[tuple[float, Forked]]) -> bool:
    """Let those run on whose time has come; True if none is frozen any more."""
    for until, victim in frozen.copy():
        if time.monotonic() >= until:
            victim.signal(signal.SIGCONT)
            frozen.remove((until, victim))
    return not frozen


def test_a_stopped_processor_leaves_nothing_behind(
    cluster: Cluster, postgres: LocalPostgres, tmp_path: Path
) -> None:
    """SIGTERM: the last checkpoint, out of the group, exit 0; nothing is put out twice."""
    with running(cluster, postgres, tmp_path, events=5_000, seconds=3) as run:
        first = run.add()
        eventually(lambda: any(one.next_offset for one in run.look()), 30)
        assert first.stop(30) == 0, first.log[-3000:]
        run.add()
        run.fed.join()
        eventually(run.is_done, 60, pause=0.3)
        assert_exact(run, cluster)
        ids = [headers_of(one)["ce_id"] for one in cluster.tools.read_all(run.averages)]
        assert len(ids) == len(set(ids))
