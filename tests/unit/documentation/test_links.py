"""Each link leads somewhere, and nothing in docs/ is out of reach."""

from __future__ import annotations

import pytest

from tests.unit.documentation.pages import PAGES, ROOT, anchors, name_of, targets

INDEX = ROOT / "docs" / "README.md"
IMAGES = ROOT / "docs" / "images"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    astray = []
    for target in targets(page):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            astray.append(target)
    assert astray == []


@pytest.mark.parametrize("page", [INDEX, ROOT / "README.md"], ids=name_of)
def test_every_page_is_linked_from(page):
    linked = {(page.parent / target.partition("#")[0]).resolve() for target in targets(page)}
    site = ROOT / "docs" / "index.md"  # of which Sphinx says which pages it does not link
    assert {name_of(other) for other in ROOT.glob("docs/*.md") if other not in {*linked, page, site}} == set()


def test_every_image_is_shown():
    shown = {(page.parent / target).resolve() for page in PAGES for target in targets(page)}
    assert {image.name for image in IMAGES.iterdir() if image not in shown} == set()
