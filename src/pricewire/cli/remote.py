"""Asks the running service over HTTP; the commands that look into it share this.

Invariant: what the service refuses, and that no service answers, is one line and exit code 1.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any

from pricewire.errors import PricewireError
from pricewire.settings import load_settings

SECONDS = 60
PATIENCE_SECONDS = 60.0
"""How long a service that is starting again is waited for in the middle of a job."""
RETRY_SECONDS = 0.5
_EXACT: Any = {"parse_float": str, "parse_int": str}


def ask(
    method: str,
    path: str,
    body: object = None,
    *,
    exact: bool = False,
    seconds: float = SECONDS,
) -> Any:
    """Return the service's answer, None where it is empty.

    Args:
        exact: numbers come as the text that they are written with.

    Raises:
        PricewireError: it refuses, or none answers.
    """
    host, port = _where()
    url = f"http://{host}:{port}{path}"
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
            if answer.status == 204:
                return None
            return json.load(answer, **_EXACT) if exact else json.load(answer)
    except urllib.error.HTTPError as error:
        raise PricewireError(_detail(error)) from None
    except (urllib.error.URLError, OSError) as error:
        raise _nobody(host, port, getattr(error, "reason", error)) from None


class Link:
    """One connection that is kept for many requests; tries again where that may help.

    Only for requests that may be made twice: how a broken one ended is not known.
    """

    def __init__(self) -> None:
        self._host, self._port = _where()
        self._connection: http.client.HTTPConnection | None = None

    def post(self, path: str, body: bytes, hint: str = "") -> Any:
        """Return the service's answer.

        Args:
            hint: said after an error: what to do about what was begun.

        Raises:
            PricewireError: it refuses, or none answers for `PATIENCE_SECONDS`.
        """
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                status, answer = self._once(path, body)
                problem = PricewireError(_told(answer, status))
                if status < 400:
                    return json.loads(answer)
                if status != 503 or _wait(answer) > PATIENCE_SECONDS:
                    raise problem
                pause = max(RETRY_SECONDS, _wait(answer))
            except (OSError, http.client.HTTPException) as error:
                self._connection = None
                problem = _nobody(self._host, self._port, error)
                pause = RETRY_SECONDS
            if time.monotonic() > give_up:
                raise PricewireError(f"{problem.detail}; {hint}" if hint else problem.detail)
            time.sleep(pause)

    def _once(self, path: str, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()


def _where() -> tuple[str, int]:
    settings = load_settings()
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host  # noqa: S104
    return host, settings.api_port


def _nobody(host: str, port: int, reason: object) -> PricewireError:
    return PricewireError(
        f"no Pricewire answers at http://{host}:{port} ({reason}): start it with "
        "`pricewire up`, or set API_HOST and API_PORT"
    )


def _wait(answer: bytes) -> float:
    """Return for how many seconds the service says that asking again is of no use."""
    try:
        return float(json.loads(answer).get("retry_after", 0))
    except (ValueError, AttributeError, TypeError):
        return 0


def _told(answer: bytes, status: int) -> str:
    try:
        return str(json.loads(answer)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the service answered HTTP {status}"


def _detail(error: urllib.error.HTTPError) -> str:
    return _told(error.read(), error.code)
