"""The pages of this repository as Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("benchmarks/*.md")])


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def parse(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(text)


def tokens(page: Path) -> list[Token]:
    return parse(page.read_text(encoding="utf-8"))


def targets(tokens: list[Token]) -> Iterator[str]:
    """Yield the targets of links and images."""
    for block in tokens:
        for token in block.children or ():
            target = token.attrGet({"link_open": "href", "image": "src"}.get(token.type, ""))
            if target is not None:
                yield str(target)


def linked_files(page: Path) -> set[Path]:
    return {(page.parent / target.partition("#")[0]).resolve() for target in targets(tokens(page))}


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to headings."""
    found: set[str] = set()
    before = None
    for token in tokens(page):
        if before is not None and before.type == "heading_open":
            text = "".join(child.content for child in token.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = sum(
                anchor == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", anchor) is not None
                for anchor in found
            )
            found.add(f"{slug}-{count}" if count else slug)
        before = token
    return found


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Yield the code blocks of a language with the number of their first line."""
    for token in tokens(page):
        if token.type == "fence" and token.info == language and token.map:
            yield token.map[0] + 2, token.content


def tables(page: Path) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each table as the heading above it and its rows, the header included."""
    heading, rows, cells, kind = "", [], [], ""
    for token in tokens(page):
        match token.type:
            case "table_open":
                rows = []
            case "tr_open":
                cells = []
            case "tr_close":
                rows.append(cells)
            case "table_close":
                yield heading, rows
            case "inline" if kind == "heading_open":
                heading = token.content
            case "inline" if kind in ("td_open", "th_open"):
                cells.append(token.content)
        kind = token.type
