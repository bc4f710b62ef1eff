"""What a broker answers when its disk is full, or a record larger than it takes.

All of it is real: a file system of a few megabytes where mounting is allowed, a limit that the
kernel sets on the size of the broker's files, a topic whose limit is lowered under the relay.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.cluster_tools import Broker, Cluster
from tests.faults.checks import (
    ALL,
    SYMBOLS,
    TOPIC,
    assert_nothing_lost,
    await_flow,
    await_more,
    await_stuck,
    publishing,
    settings,
    stuck_shards,
)
from tests.service_tools import Load, eventually

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

# The metadata log stays on a disk with room, and indexes are set aside in small pieces only.
SMALL = {"metadata.log.dir": "metadata", "log.index.size.max.bytes": "65536"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB, where node 1 of a cluster in `tmp_path/kafka` keeps half its data."""
    folder = tmp_path / "kafka" / "1" / "small"
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "pricewire-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no right to mount a small file system here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_one_of_two_disks_is_full(small_disk: Path, tmp_path: Path) -> None:
    """The broker lives on and refuses what belongs on the full disk; the other shards flow."""
    properties = SMALL | {"log.dirs": "small,large"}
    with (
        Cluster(tmp_path / "kafka", properties=properties) as cluster,
        publishing(tmp_path / "home", settings(cluster)) as service,
    ):
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            ballast = small_disk / "ballast"
            fill_up(ballast)
            held = shards_in(small_disk)
            await_stuck(service, "has no leader", held)
            await_flow(service, shards=ALL - held)
            assert stuck_shards(service) == held
            assert cluster.node(1).runs
            ballast.unlink()
            cluster.restart(1)
            await_flow(service)
        # The disk failed in the middle of an append: what became of that batch nobody was told,
        # and the partition got a leader anew (docs/delivery.md, "Repeats that remain possible").
        assert_nothing_lost(service, cluster, load.acknowledged, may_repeat=True)


def test_the_only_disk_takes_no_more(tmp_path: Path) -> None:
    """The kernel refuses every write past a file's size: the broker gives up and ends."""
    properties = SMALL | {"log.dirs": "data"}
    with (
        Cluster(tmp_path / "kafka", properties=properties) as cluster,
        publishing(tmp_path / "home", settings(cluster)) as service,
    ):
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            let_no_file_grow(cluster.node(1))
            eventually(lambda: not cluster.node(1).runs)
            await_stuck(service, "Connection refused")
            await_more(load, 50)
            cluster.restart(1)
            await_flow(service)
        assert_nothing_lost(service, cluster, load.acknowledged)


def test_a_record_larger_than_the_topic_takes(tmp_path: Path) -> None:
    with (
        Cluster(tmp_path / "kafka") as cluster,
        publishing(tmp_path / "home", settings(cluster)) as service,
    ):
        with Load(service, SYMBOLS, threads=2) as load:
            await_flow(service)
            set_max_message_bytes(cluster, 100)
            await_stuck(service, "max.message.bytes must be at least")
            await_more(load, 50)
            set_max_message_bytes(cluster, 1_000_000)
            await_flow(service)
        assert_nothing_lost(service, cluster, load.acknowledged)


def fill_up(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def shards_in(folder: Path) -> set[int]:
    return {int(part.name.rpartition("-")[2]) for part in folder.glob(f"{TOPIC}-*")}


def let_no_file_grow(broker: Broker) -> None:
    largest = max(file.stat().st_size for file in broker.folder.glob("data/*/*.log"))
    assert broker.process is not None
    _, hard = resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(broker.process.pid, resource.RLIMIT_FSIZE, (largest, hard))


def set_max_message_bytes(cluster: Cluster, size: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[entry])
    admin = cluster.admin()
    admin.incremental_alter_configs([topic])[topic].result(10)
