"""What is served: Django projects, and the one page of each that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Site:
    """A project: its settings, the module that has `application`, and the page to ask for."""

    name: str
    settings: str
    wsgi: str
    path: str

    def at(self, path: str) -> Site:
        """Return the same project with another page to ask for."""
        return replace(self, path=path)


HELLO = Site("hello", "hello_site.settings", "hello_site.wsgi", "/")
COUNTED = Site("hello, counted", "hello_site.counted_settings", "hello_site.counted", "/")
PAGES = Site("pages", "hello_site.pages_settings", "hello_site.pages", "/")
FAST_PAGE = Site("fast page", "example_project.settings", "example_project.wsgi", "/fast/")
