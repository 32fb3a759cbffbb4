"""The names that the project's URLconf has: what VIEWS may speak of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.urls import ResolverMatch, URLPattern, get_resolver

from django_wsgiserve.suggestion import nearest


@dataclass(frozen=True, slots=True)
class UrlNames:
    """All names below ROOT_URLCONF.

    `urls` has the dotted path of the view by the name of its URL, with namespaces; a URL
    without a name goes by that path. `namespaces` are written whole: `shop:cart`.
    """

    urls: dict[str, str]
    namespaces: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return name in self.urls or name in self.namespaces

    def meant(self, name: str) -> str:
        """Return what somebody meant by a name that there is not; empty when it is not clear."""
        known = sorted({*self.urls, *self.namespaces}, key=lambda other: (len(other), other))
        for other in known:  # the view instead of its URL, or a name without its namespace
            if self.urls.get(other) == name or other.endswith(f":{name}"):
                return other
        return nearest(name, known)


def url_names() -> UrlNames:
    """Return the names of the project's URLconf, which is imported for it.

    Raises what the project's modules raise.
    """
    if not getattr(settings, "ROOT_URLCONF", None):
        return UrlNames({}, frozenset())
    urls: dict[str, str] = {}
    namespaces: set[str] = set()
    for namespace, pattern in _patterns(get_resolver(), ()):
        namespaces.update(":".join(namespace[:length]) for length in range(1, len(namespace) + 1))
        # Asked of a match, so that it is the very name that requests are looked up by.
        match = ResolverMatch(pattern.callback, (), {}, pattern.name, None, list(namespace))
        view = ResolverMatch(pattern.callback, (), {}).view_name
        urls.setdefault(match.view_name, view)
    return UrlNames(urls, frozenset(namespaces))


def _patterns(
    resolver: Any, namespaces: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], URLPattern]]:
    """Yield every URL below a resolver with the namespaces it is in."""
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            inner = (pattern.namespace,) if pattern.namespace else ()
            yield from _patterns(pattern, (*namespaces, *inner))
        else:
            yield namespaces, pattern
