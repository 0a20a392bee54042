"""Links exist, and every page and image is linked."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.unit.documentation.pages import (
    DOCS,
    PAGES,
    ROOT,
    anchors,
    linked_files,
    name_of,
    parse,
    targets,
    tokens,
)

IMAGES = DOCS / "images"
INDEX = DOCS / "README.md"  # which docs/index.md includes
SITE = {page for page in PAGES if page.is_relative_to(DOCS)} - {INDEX}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_exist(page):
    broken = []
    for target in targets(tokens(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
        elif page.is_relative_to(DOCS) and file.suffix == ".md" and file not in SITE:
            broken.append(f"{target} (no page of the site; name the file instead)")
    assert broken == []


def test_every_page_can_be_reached_from_the_readme():
    reached, new = set(), {ROOT / "README.md"}
    while new:
        reached |= new
        new = {file for page in new for file in linked_files(page) if file.suffix == ".md"} - reached
    assert {name_of(page) for page in PAGES if page not in {*reached, DOCS / "index.md"}} == set()


def test_every_image_is_shown():
    shown = {file for page in PAGES for file in linked_files(page)}
    assert {image.name for image in IMAGES.iterdir() if image not in shown} == set()


def test_readme_of_index_page_has_no_relative_links():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for each in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(each["pattern"], each["replacement"], text)
    links = list(targets(parse(text)))
    assert links
    assert [target for target in links if "://" not in target] == []
