"""A page as the tests read it."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input", "br"}
SVG = "http://www.w3.org/2000/svg"  # a name, never fetched


class Page(HTMLParser):
    """Elements, their attributes and the text; fails on tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data.strip())

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.elements if name in attrs]


def assert_offline(text, page, *others):
    """The page refers to itself, to what it holds and to the files `others`; its ids are unique."""
    assert set(re.findall(r"https?://[^\s\"'<)]*|@import", text)) <= {SVG}
    links = [*page.attributes("src"), *page.attributes("href")]
    elsewhere = {link.partition("#")[0] for link in links if not link.startswith(("data:", "#"))}
    assert elsewhere == set(others)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links if link[1:] and link.startswith("#")} <= set(ids)
