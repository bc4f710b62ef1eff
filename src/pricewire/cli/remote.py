"""Asks the running service over HTTP; the commands that look into it share this.

Invariant: what the service refuses, and that no service answers, is one line and exit code 1.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from pricewire.errors import PricewireError
from pricewire.settings import load_settings

SECONDS = 60


def ask(method: str, path: str, body: object = None) -> Any:
    """Return the service's answer.

    Raises:
        PricewireError: it refuses, or none answers.
    """
    settings = load_settings()
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host  # noqa: S104
    url = f"http://{host}:{settings.api_port}{path}"
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise PricewireError(_detail(error)) from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise PricewireError(
            f"no Pricewire answers at http://{host}:{settings.api_port} ({reason}): start it with "
            "`pricewire up`, or set API_HOST and API_PORT"
        ) from None


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the service answered HTTP {error.code}"
