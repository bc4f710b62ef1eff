"""The documents against the code: what is set, answered and decided is written down.

A document that names something which is gone, or misses what is new, fails here.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.routing import Mount

from pricewire.bootstrap import Services
from pricewire.errors import (
    InvalidParameter,
    PricewireError,
    ProviderRefused,
    StartupError,
    Throttle,
    Throttled,
)
from pricewire.settings import Settings
from pricewire.web import prices
from pricewire.web.app import create_app

CHECKOUT = Path(__file__).parents[2]
HTTP = (CHECKOUT / "docs" / "http.md").read_text(encoding="utf-8")
SETTINGS = (CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8")
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
DECISIONS = sorted((CHECKOUT / "docs" / "decisions").glob("*.md"))


def rows(document: str) -> dict[str, list[str]]:
    """Return the table rows of a document by the word in code type that they begin with."""
    found = {}
    for line in document.splitlines():
        name, *cells = [cell.strip() for cell in line.strip()[1:-1].split("|")]
        if line.startswith("|") and re.fullmatch(r"`\w+`", name):
            found[name.strip("`")] = cells
    return found


def test_every_setting_has_its_row_with_its_default() -> None:
    table = {name: cells for name, cells in rows(SETTINGS).items() if name.isupper()}
    assert set(table) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        assert table[name.upper()][0] == default, name


def classes(base: type[PricewireError]) -> Iterator[type[PricewireError]]:
    yield base
    for below in base.__subclasses__():
        yield from classes(below)


def codes_that_are_given() -> set[str]:
    """Codes that no class has for itself but that are given where an error is made."""
    sources = (CHECKOUT / "src" / "pricewire").rglob("*.py")
    texts = [path.read_text(encoding="utf-8") for path in sources]
    return {code for text in texts for code in re.findall(r'\bcode="([a-z_]+)"', text)}


def test_every_error_code_is_documented() -> None:
    codes = {one.code for one in classes(PricewireError)} | {one.value for one in Throttle}
    given = codes_that_are_given()
    assert {"invalid_key", "premium_required"} <= given
    assert {code for code in codes | given if f"`{code}`" not in HTTP} == set()


def test_no_error_code_is_documented_that_is_gone() -> None:
    errors = rows(HTTP[HTTP.index("## Errors") :])
    codes = {one.code for one in classes(PricewireError)} | {one.value for one in Throttle}
    web = {"method_not_allowed", "http_error"}
    assert set(errors) - codes - codes_that_are_given() - web == set()


def test_the_table_of_errors_says_the_right_status_and_whether_to_try_again() -> None:
    table = rows(HTTP[HTTP.index("## Errors") :])
    expected = {
        one.code: (one.status, one.retryable)
        for one in classes(PricewireError)
        if one not in (ProviderRefused, Throttled, StartupError)
    }
    expected |= {one.value: (Throttled.status, Throttled.retryable) for one in Throttle}
    for code, (status, retryable) in expected.items():
        if code in table:
            assert table[code][:2] == [str(status), "yes" if retryable else "no"], code
    unlisted = {"kafka_error", "topic_mismatch", "poll_overtaken", "feed_overtaken"}
    unlisted |= {"processor_error", "owner_changed", "processor_broken", "calendars_unavailable"}
    assert set(expected) - set(table) == unlisted


def api() -> FastAPI:
    """The documented part of the application; it asks nothing of its services to be made."""
    app = create_app(cast("Services", object()))
    [mounted] = [route.app for route in app.routes if isinstance(route, Mount)]
    assert isinstance(mounted, FastAPI)
    return mounted


async def got(path: str) -> tuple[int, bytes]:
    """Return what the application answers over its mounts, as a server would be given it."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "root_path": ""}
    await create_app(cast("Services", object()))(scope | {"query_string": b""}, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


async def test_the_page_for_browsers_needs_nothing_from_elsewhere() -> None:
    status, page = await got("/docs")
    wanted = re.findall(r"""(?:src=|href=|url: )["']([^"']+)""", page.decode())
    assert (status, "/openapi.json" in wanted, len(wanted) >= 4) == (200, True, True)
    for url in wanted:
        assert url[0] == "/" != url[1], url
        status, body = await got(url)
        assert (status, bool(body)) == (200, True), url


def test_every_route_has_its_heading_and_every_heading_its_route() -> None:
    paths = api().openapi()["paths"]
    routes = {
        f"{method.upper()} {re.sub(r'{([a-z_]*_id)(:path)?}', '{id}', path)}"
        for path, methods in paths.items()
        for method in methods
    }
    assert len(routes) >= 6
    headings = set(re.findall(r"^##+ ((?:GET|POST|PUT|PATCH|DELETE) \S+)$", HTTP, re.MULTILINE))
    assert headings == routes


def test_the_hot_route_is_documented_by_hand_as_it_is_served() -> None:
    [operation] = api().openapi()["paths"][prices.PATH].values()
    assert operation["parameters"] == prices.DOCUMENTATION["parameters"]
    table = rows(HTTP.split(f"## GET {prices.PATH}\n")[1].split("    $ curl")[0])
    assert list(table) == [parameter["name"] for parameter in operation["parameters"]]
    for parameter in operation["parameters"]:
        meaning = table[parameter["name"]][0]
        assert (meaning == "required") is parameter["required"], parameter["name"]
        assert meaning == str(parameter["schema"].get("default", meaning)).lower()


class Asked(Exception):
    """What reached the use case."""

    def __init__(self, symbol: str, asked: dict[str, object]) -> None:
        super().__init__()
        self.given = {"symbol": symbol, **asked}


class Stub:
    """Services whose main job tells what it was asked for."""

    @staticmethod
    def latest(symbol: str, **asked: object) -> None:
        raise Asked(symbol, asked)


async def parsed(query: str) -> dict[str, object]:
    endpoint = prices.latest_price_endpoint(cast("Services", Stub()))
    scope = {"type": "http", "method": "GET", "path": prices.PATH, "headers": []}
    request = Request(scope | {"query_string": query.encode()})
    with pytest.raises(Asked) as asked:
        await endpoint(request)
    return asked.value.given


async def test_the_hot_route_parses_by_hand_what_is_documented_by_hand() -> None:
    documented: dict[str, Any] = {one["name"]: one for one in prices.DOCUMENTATION["parameters"]}
    default = {name: one["schema"].get("default") for name, one in documented.items()}
    named = {"wait_seconds": default.pop("wait_ms")} | default
    assert await parsed("symbol=EUR/USD") == named | {"symbol": "EUR/USD"}
    assert await parsed("symbol=EUR/USD&x=1") == named | {"symbol": "EUR/USD"}
    given = {"provider": "history", "allow_stale": "true", "max_age": "60", "wait_ms": "250"}
    for kind in documented["kind"]["schema"]["enum"]:
        query = "&".join(f"{name}={value}" for name, value in (given | {"kind": kind}).items())
        assert await parsed(f"symbol=A&{query}") == {
            "symbol": "A",
            "provider": "history",
            "kind": kind,
            "allow_stale": True,
            "max_age": 60,
            "wait_seconds": 0.25,
        }


@pytest.mark.parametrize("name", ["wait_ms", "max_age"])
async def test_the_hot_route_keeps_to_the_bounds_that_are_documented(name: str) -> None:
    [one] = [one for one in prices.DOCUMENTATION["parameters"] if one["name"] == name]
    most = one["schema"]["maximum"]
    passed = await parsed(f"symbol=A&{name}={most}")
    assert passed[{"wait_ms": "wait_seconds"}.get(name, name)] in (most, most / 1000)
    for outside in [-1, most + 1, "1.5", "", "٣"]:
        with pytest.raises(InvalidParameter):
            await parsed(f"symbol=A&{name}={outside}")


@pytest.mark.parametrize(
    "query", ["", "provider=history", "symbol=A&kind=x", "symbol=A&allow_stale=1"]
)
async def test_the_hot_route_refuses_what_is_not_documented(query: str) -> None:
    with pytest.raises(InvalidParameter):
        await parsed(query)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem[:4])
def test_every_decision_has_its_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    number = page.name[:4]
    assert text.startswith(f"# {number} ")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[:3] == ["Context", "Decision", "Consequences"]
    assert set(headings[3:]) <= {"Alternatives"}


def test_decisions_are_numbered_without_a_gap_and_code_refers_to_none_that_is_missing() -> None:
    numbers = [page.name[:4] for page in DECISIONS]
    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]
    for path in (CHECKOUT / "src").rglob("*.py"):
        named = re.findall(r"docs/decisions/(\d{4})", path.read_text(encoding="utf-8"))
        assert set(named) <= set(numbers), path


def test_the_links_between_documents_lead_somewhere() -> None:
    pages = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", CHECKOUT / "CHANGELOG.md"]
    for page in [*pages, *(CHECKOUT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), (page.name, target)


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    section = README.split("## Two commands")[1].split("##")[0]
    commands = re.findall(r"^    make ([a-z]+)", section, re.MULTILINE)
    assert commands == ["up", "test"]
    makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
    told = re.findall(r"^ *make ([a-z]+)", (CHECKOUT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    for command in [*commands, *told]:
        assert re.search(rf"^{command}:", makefile, re.MULTILINE), command


# In two parts each, so that this file does not name them.
NOT_NAMED = [
    b"".join(parts)
    for parts in (
        (b"/wo", b"rk/"),
        (b"py", b"pi.org"),
        (b"repo.", b"maven"),
        (b"registry.", b"npmjs"),
        (b"deb.", b"debian"),
        (b".lib", b"rary/"),
    )
]


def test_no_file_names_a_place_of_one_machine_or_a_registry() -> None:
    git = shutil.which("git")
    if git is None or not (CHECKOUT / ".git").exists():
        pytest.skip("not a checkout: git says which files belong to the repository")
    listed = subprocess.run(
        [git, "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, check=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        path = CHECKOUT / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        assert [one for one in NOT_NAMED if one in content] == [], name
