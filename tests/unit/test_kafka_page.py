"""docs/kafka.md against the code: its variables, its headers, its sections, its `.env` lines."""

from __future__ import annotations

import re

import pytest

from pricewire.settings import Settings, load_settings
from tests.contract_tools import contract_file
from tests.example_tools import Block, blocks
from tests.kafka_tools import CHECKOUT

PAGE = (CHECKOUT / "docs" / "kafka.md").read_text(encoding="utf-8")
DOTENV = [block for block in blocks(PAGE) if block.language == "dotenv"]


def table(heading: str) -> dict[str, list[str]]:
    """Return the rows of the table under a heading by each word in code type they begin with."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, *cells = [cell.strip() for cell in line.strip("|").split("|")]
            found |= dict.fromkeys(re.findall(r"`([^`]+)`", names), cells)
    return found


def test_every_variable_of_kafka_is_there_with_its_default() -> None:
    rows = table("Configuration")
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    assert set(rows) == {name for name in fields if name.startswith("KAFKA_")}
    for name, (default, meaning) in rows.items():
        told = "" if fields[name].default is None else f"`{fields[name].default}`"
        assert default == told, name
        assert len(meaning) > 10, name


def test_every_header_of_the_contract_is_there() -> None:
    document = contract_file("asyncapi.json")
    headers = document["components"]["messages"]["price.recorded"]["headers"]
    rows = table("Message schema")
    assert set(rows) == set(headers["properties"])
    always = {name for name, cells in rows.items() if cells[1].startswith("always")}
    assert always == set(headers["required"])


def test_the_sections_are_those_of_the_users() -> None:
    assert re.findall(r"^## (.+)$", PAGE, re.MULTILINE) == [
        *("Overview", "Architecture", "Configuration", "Message schema", "Usage"),
        *("Producer features", "Troubleshooting", "Debug commands", "Next steps"),
    ]
    assert re.findall(r"^### (.+)$", PAGE, re.MULTILINE) == [
        *("1. Start the services", "2. Test the producer", "3. Monitor messages", "4. API usage"),
        *("Connection refused", "Topic not found", "Message not delivered"),
    ]


@pytest.mark.parametrize("block", DOTENV, ids=lambda block: f"line {block.line}")
def test_the_lines_for_a_dotenv_are_settings_that_work_together(block: Block) -> None:
    lines = dict(line.split("=", 1) for line in block.lines)
    assert set(lines) <= {name.upper() for name in Settings.model_fields}
    load_settings(**{name.lower(): value for name, value in lines.items()})


def test_the_members_of_the_value_are_those_of_the_schema() -> None:
    [block] = [block for block in blocks(PAGE) if block.language == "json"]
    members = re.findall(r'"(\w+)": ', "\n".join(block.lines))
    assert members == list(contract_file("price-events.schema.json")["properties"])
