"""A bad network on loopback: a TCP proxy that cuts, slows, swallows or refuses connections.

The network tests put it between the service and a broker that advertises the proxy's port.
Invariant: bytes are passed on in order and unchanged, or the connection ends; a stream with a hole
in it, which TCP would never deliver, is never seen.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from types import TracebackType

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes connections to `port` on to `target`, both on 127.0.0.1, in threads of its own."""

    def __init__(self, port: int, target: int) -> None:
        self._delay_seconds = 0.0
        self._seconds_per_byte = 0.0
        self.port = port
        self._target = target
        self._passing = threading.Event()
        self._passing.set()
        self._answers_lost = False
        self._refusing = False
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", port), backlog=100)
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._passing.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def cut(self) -> None:
        """End all connections with a reset; what was on its way is lost."""
        for connection in list(self._open):
            _reset(connection)

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Cut all and let no new connection live."""
        self._refusing = True
        self.cut()
        try:
            yield
        finally:
            self._refusing = False

    @contextlib.contextmanager
    def slow(self, *, delay_seconds: float, bytes_per_second: float) -> Iterator[None]:
        """Pass each piece (up to 64 KB) on later, and each direction of a connection so slowly."""
        self._delay_seconds, self._seconds_per_byte = delay_seconds, 1 / bytes_per_second
        try:
            yield
        finally:
            self._delay_seconds = self._seconds_per_byte = 0.0

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Pass nothing on in either direction; afterwards it comes late, as TCP sends it again."""
        self._passing.clear()
        try:
            yield
        finally:
            self._passing.set()

    @contextlib.contextmanager
    def losing_answers(self) -> Iterator[None]:
        """Pass on what the client says, swallow what the broker answers; at the end cut all."""
        self._answers_lost = True
        try:
            yield
        finally:
            self.cut()
            self._answers_lost = False

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._refusing:
                _reset(client)
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _reset(client)
                continue
            self._open |= {client, broker}
            self._pump(client, broker, answers=False)
            self._pump(broker, client, answers=True)

    def _pump(self, source: socket.socket, to: socket.socket, *, answers: bool) -> None:
        def pump() -> None:
            with contextlib.suppress(OSError):
                while (data := source.recv(65_536)) and not self._ended.is_set():
                    self._hold_back(len(data))
                    if not (answers and self._answers_lost):
                        to.sendall(data)
            for end in (source, to):
                _reset(end)
                self._open.discard(end)

        threading.Thread(target=pump, daemon=True).start()

    def _hold_back(self, size: int) -> None:
        self._ended.wait(self._delay_seconds + size * self._seconds_per_byte)
        self._passing.wait()


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        # Wakes the thread that reads from it, which a close alone would not.
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
