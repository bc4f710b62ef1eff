"""Asks the API for the average of the event that is just due, until it has it.

`python -m bench.streams_probe PORT BEGAN RATE SYMBOLS WARM SECONDS`, run by `bench.streams_latency`
in a process of its own; prints the latenesses in seconds as JSON. What it never saw within five
seconds counts as five seconds.
"""

from __future__ import annotations

import http.client
import json
import re
import sys
import time

from bench.streams_input import WINDOW, symbol_name

GIVE_UP_SECONDS = 5.0
PAUSE_SECONDS = 0.02


def main(port: int, began: float, rate: int, symbols: int, warm: int, seconds: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    late = []
    end = began + warm + seconds - 1
    while (now := time.time()) < end:
        number = max(rate * warm, int((now + PAUSE_SECONDS - began) * rate))
        due = began + number / rate
        time.sleep(max(0.0, due - time.time()))
        late.append(_lateness(connection, number, symbols, due))
    print(json.dumps(late))


def _lateness(
    connection: http.client.HTTPConnection, number: int, symbols: int, due: float
) -> float:
    symbol = symbol_name(number, symbols)
    sequence = WINDOW + 1 + number // symbols
    while time.time() < due + GIVE_UP_SECONDS:
        # An explanation comes with the next checkpoint: another question, and another time.
        path = f"/v1/averages?symbol={symbol}&kind=sma&window=5&explain=false"
        connection.request("GET", path)
        body = connection.getresponse().read().decode()
        found = [int(one) for one in re.findall(rf'"{symbol}~([0-9]+)', body)]
        if found and max(found) >= sequence:
            return time.time() - due
    return GIVE_UP_SECONDS


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), *map(int, sys.argv[3:7]))
