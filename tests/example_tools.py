"""The shell examples of a document: what it says to type, and what it says is printed.

`tests/integration/test_examples.py` runs them. An example is a line that begins with `$ ` in a
`console` fence or an indented block, with the output below it, or a line of a `bash` fence; a `log`
fence shows lines of the service's log. What
differs from run to run (ids, times, offsets, ports, prices) is made the same on both sides before
they are compared; `…` in a document stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_SHELL = {"", "text", "json", "dotenv"}
LOG = "the service's log"


@dataclass(frozen=True)
class Block:
    """A fenced or indented block; `language` is `indented` for the latter."""

    language: str
    line: int
    lines: list[str]


@dataclass(frozen=True)
class Example:
    """A command and what it prints; `LOG` as a command: the log has this line by now."""

    page: str
    line: int
    command: str
    output: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.command}"

    @property
    def exit_code(self) -> int:
        """By what is printed: an error is 1, `kafka status` of none that runs is 3."""
        if self.output.startswith("pricewire: "):
            return 1
        return 3 if self.output.startswith("status     not running") else 0


def examples(path: Path) -> list[Example]:
    found = []
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.language not in NO_SHELL:
            found += list(_commands(path.name, block))
    return found


def blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"```(\w*)", lines[number])
        indented = lines[number].startswith("    ")
        begin = number + 1 if fence else number
        end = begin
        while end < len(lines) and _goes_on(lines[end], fenced=bool(fence)):
            end += 1
        if fence:
            yield Block(fence[1], begin + 1, lines[begin:end])
        elif indented:
            yield Block("indented", begin + 1, [line[4:] for line in lines[begin:end]])
        number = end + 1 if fence or not indented else end


def _goes_on(line: str, *, fenced: bool) -> bool:
    return line != "```" if fenced else line.startswith("    ")


def _commands(page: str, block: Block) -> Iterator[Example]:
    prompted = any(line.startswith("$ ") for line in block.lines)
    if block.language == "console" or (block.language == "indented" and prompted):
        yield from _prompted(page, block)
    elif block.language == "log":
        for offset, line in enumerate(block.lines):
            yield Example(page, block.line + offset, LOG, line)
    elif block.language in ("bash", "indented"):
        for offset, line in enumerate(block.lines):
            if line and not line.startswith("#"):
                yield Example(page, block.line + offset, _without_comment(line), "")
    else:
        raise AssertionError(f"{page}:{block.line}: a fence is console, bash, log or {NO_SHELL}")


def _prompted(page: str, block: Block) -> Iterator[Example]:
    starts = [number for number, line in enumerate(block.lines) if line.startswith("$ ")]
    for start, following in zip(starts, [*starts[1:], len(block.lines)], strict=True):
        end = start + 1
        while block.lines[end - 1].endswith("\\"):
            end += 1
        command = "\n".join(block.lines[start:end])[2:]
        output = "\n".join(block.lines[end:following])
        yield Example(page, block.line + start, _without_comment(command), output)


def _without_comment(command: str) -> str:
    return re.sub(r"\s{2,}#.*$", "", command)


UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_VARYING = [
    (UUID, "<uuid>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?Z?", "<time>"),
    (r"(?:localhost|127\.0\.0\.1):\d+", "<host>"),
    (
        r'"(price|value|offset|waiting|oldest_seconds|attempts|published|generation)":[\d.]+',
        r'"\1":<n>',
    ),
    (r"(~|offset |Offset:|\(pid |process +|attempts=)\d+", r"\1<n>"),
    (r"(TopicId: |version +|cluster +)\S+", r"\1<x>"),
    (r"([A-Z]+),\d{4}-\d\d-\d\d,[\d.]+", r"\1,<day>,<n>"),
    (r"(?m)^([\w.-]+:\d+):\d+$", r"\1:<n>"),
    (r"\s+", ""),
]


def same_for_all(text: str) -> str:
    """Return `text` with all that differs from run to run made the same, and no white space."""
    for pattern, replacement in _VARYING:
        text = re.sub(pattern, replacement, text)
    return text


def shape(output: str) -> str:
    """Return a regular expression for what a document says is printed."""
    return ".*?".join(re.escape(part) for part in same_for_all(output).split("…"))
