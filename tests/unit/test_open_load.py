"""The open-loop load generator: a service that stalls is charged for all who came meanwhile."""

from __future__ import annotations

import asyncio
import json
import statistics
from contextlib import suppress

import pytest

from bench import open_load

STALL_SECONDS = 0.5


async def test_latency_counts_from_when_a_request_was_due(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, gone = 0, asyncio.Event()

    async def stall_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                asked += 1
                await asyncio.sleep(STALL_SECONDS if asked == 1 else 0)
                writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()
        gone.set()

    # With one connection, who comes during the stall waits in line: no connection sees them wait.
    monkeypatch.setattr(open_load, "CONNECTIONS", 1)
    async with await asyncio.start_server(stall_once, "127.0.0.1", 0) as server:
        await open_load.main(server.sockets[0].getsockname()[1], 100, 0.5, ["AAPL"])
        await gone.wait()
    result = json.loads(capsys.readouterr().out)
    assert result["answers"] == result["not_200"] == asked == 50
    # Requests were due every 10 ms, from 500 ms before the stall's end: the middle one waited half.
    assert max(result["ms"]) >= STALL_SECONDS * 1000
    assert statistics.median(result["ms"]) >= STALL_SECONDS * 1000 * 0.4
