"""The limit of a view: where it can be said, and what the server is told of it."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.handlers.base import BaseHandler
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.urls import ResolverMatch, include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from django_wsgiserve import timeout
from django_wsgiserve.config.views import parse_views
from django_wsgiserve.integration.views import NAME_VIEW, name_views


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


@timeout("5m")
def decorated(request: HttpRequest) -> HttpResponse:
    return HttpResponse("decorated")


@timeout(7)
async def decorated_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("async")


@csrf_exempt
@timeout(7)
@require_GET
@never_cache
def in_the_middle(request: HttpRequest) -> HttpResponse:
    return HttpResponse("in the middle")


@method_decorator(timeout(7), name="dispatch")
class Dispatched(View):
    """Marked as a whole."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return HttpResponse("dispatched")


@method_decorator(timeout(7), name="dispatch")
class DispatchedAsync(View):
    """Marked as a whole, and adapted by Django."""

    async def get(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return HttpResponse("async class")


class Mixed(View):
    """Some of its methods are marked."""

    @method_decorator(timeout(7))
    def get(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return HttpResponse("get")

    @timeout(9)
    def post(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return HttpResponse("post")

    def put(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return HttpResponse("put")


class ViewSet:
    """Bound as the REST framework's view sets are: a method of HTTP to an action."""

    @timeout(7)
    def export(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return HttpResponse("export")

    @classmethod
    def as_view(cls, actions: dict[str, str]) -> Callable[[HttpRequest], HttpResponse]:
        """Return the view that runs the action of the method."""

        def view(request: HttpRequest) -> HttpResponse:
            answer: HttpResponse = getattr(cls(), actions[str(request.method).lower()])(request)
            return answer

        view.cls, view.actions = cls, actions  # type: ignore[attr-defined]
        return view


class Feed:
    """A view that is an instance, and one that has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer."""
        return HttpResponse("feed")


def with_word(request: HttpRequest, word: str) -> HttpResponse:
    return HttpResponse(word)


shop = [
    path("plain", plain, name="plain"),
    path("decorated", decorated, name="decorated"),
    path("dispatched", Dispatched.as_view()),
]

urlpatterns = [
    path("plain", plain, name="plain"),
    path("twice", timeout(7)(plain), name="twice"),
    path("decorated", decorated, name="decorated"),
    path("async", decorated_async),
    path("middle", in_the_middle),
    path("dispatched", Dispatched.as_view()),
    path("dispatched-async", DispatchedAsync.as_view()),
    path("as-view", timeout(7)(Mixed.as_view())),
    path("mixed", Mixed.as_view()),
    path("viewset", ViewSet.as_view({"get": "export"})),
    path("feed", Feed()),
    path("feed/limited", timeout(7)(Feed())),
    path("partial", functools.partial(timeout(7)(with_word), word="partial")),
    path("of-partial", timeout(7)(functools.partial(with_word, word="of partial"))),
    path("never", timeout(None)(plain)),
    path("zero", timeout("0s")(plain)),
    path("shop/", include((shop, "shop"))),
    path("stock/", include((shop, "shop"), namespace="stock")),
    path("outer/", include(([path("inner/", include((shop, "inner")))], "outer"))),
]


def start_response(status: str, fields: list[tuple[str, str]]) -> None:
    """Take the head of a response; nobody asks for it."""


Tell = Callable[..., tuple[str, float, str]]


@pytest.fixture
def tell(settings: Any) -> Iterator[Tell]:
    """Return a function that asks for a path: the name and the limit told, and the answer."""
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.ALLOWED_HOSTS = ["*"]
    before = BaseHandler.resolve_request

    def ask(path: str, method: str = "GET", views: Any = None) -> tuple[str, float, str]:
        name_views(parse_views(views or {}))
        told: list[tuple[str, float]] = []
        environ = RequestFactory().generic(method, path).environ
        environ[NAME_VIEW] = lambda *facts: told.append(facts)
        application: Any = get_wsgi_application()
        for _ in range(2):  # found out, and known
            response: Any = application(environ, start_response)
        body = b"".join(response).decode()
        response.close()
        assert told[0] == told[1], "what is known is not what was found out"
        return (*told[0], body)

    yield ask
    BaseHandler.resolve_request = before  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("path", "name", "timeout_s", "body"),
    [
        ("/plain", "plain", 0.0, "plain"),
        ("/twice", "plain", 7.0, "plain"),
        ("/decorated", "decorated", 300.0, "decorated"),
        ("/async", "decorated_async", 7.0, "async"),
        ("/middle", "in_the_middle", 7.0, "in the middle"),
        ("/dispatched", "Dispatched", 7.0, "dispatched"),
        ("/dispatched-async", "DispatchedAsync", 7.0, "async class"),
        ("/as-view", "Mixed", 7.0, "get"),
        ("/viewset", "view", 7.0, "export"),
        ("/feed", "Feed", 0.0, "feed"),
        ("/feed/limited", "Feed", 7.0, "feed"),
        ("/partial", "partial", 7.0, "partial"),
        ("/of-partial", "with_word", 7.0, "of partial"),
        ("/never", "plain", math.inf, "plain"),
        ("/zero", "plain", math.inf, "plain"),
        ("/shop/decorated", "decorated", 300.0, "decorated"),
    ],
)
def test_the_limit_of_a_decorated_view_is_told_and_the_view_does_what_it_did(
    tell: Tell, path: str, name: str, timeout_s: float, body: str
) -> None:
    told_name, told_s, answer = tell(path)
    assert told_name.rpartition(".")[2] == name
    assert (told_s, answer) == (timeout_s, body)


@pytest.mark.parametrize(
    ("method", "timeout_s"), [("GET", 7.0), ("HEAD", 7.0), ("POST", 9.0), ("PUT", 0.0)]
)
def test_each_method_of_a_class_may_have_its_own(tell: Tell, method: str, timeout_s: float) -> None:
    assert tell("/mixed", method)[1] == timeout_s


VIEWS = {
    "shop": {"TIMEOUT": "60s"},
    "shop:decorated": {"TIMEOUT": "61s"},
    "decorated": {"TIMEOUT": "62s"},
    "outer": {"TIMEOUT": "63s"},
    "outer:inner:plain": {"TIMEOUT": 0},
    f"{__name__}.Mixed": {"TIMEOUT": "64s"},
}


@pytest.mark.parametrize(
    ("path", "timeout_s"),
    [
        ("/plain", 0.0),
        ("/twice", 7.0),
        ("/decorated", 62.0),
        ("/shop/plain", 60.0),
        ("/shop/decorated", 61.0),
        ("/shop/dispatched", 60.0),
        ("/stock/plain", 0.0),
        ("/stock/decorated", 300.0),
        ("/outer/inner/decorated", 63.0),
        ("/outer/inner/plain", math.inf),
        ("/mixed", 64.0),
    ],
)
def test_the_operator_wins_over_the_decorator_and_the_name_over_its_namespace(
    tell: Tell, path: str, timeout_s: float
) -> None:
    assert tell(path, views=VIEWS)[1] == timeout_s


def test_a_urlconf_made_anew_for_each_request_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made_anew() -> Callable[[HttpRequest], HttpResponse]:
        return lambda request: HttpResponse()

    def resolve(self: BaseHandler, request: HttpRequest) -> ResolverMatch:
        return ResolverMatch(made_anew(), (), {})

    monkeypatch.setattr(BaseHandler, "resolve_request", resolve)
    name_views()
    naming: Any = BaseHandler.resolve_request
    request = RequestFactory().get("/")
    request.META[NAME_VIEW] = lambda name, timeout_s: None
    for _ in range(10_000):
        naming(BaseHandler(), request)
    (known,) = (
        cell.cell_contents for cell in naming.__closure__ if isinstance(cell.cell_contents, dict)
    )
    assert 0 < len(known) < 5000


@pytest.mark.parametrize("limit", ["soon", -1, True, "25d", math.nan, b"5", plain])
def test_what_is_no_duration_is_refused_where_it_stands(limit: Any) -> None:
    with pytest.raises(ValueError, match=r'^timeout\(\) must be .* 0 is no limit.*@timeout\("'):
        timeout(limit)


@pytest.mark.parametrize("limit", [300, 300.0, "300", "5m", "4m 60s", timedelta(minutes=5)])
def test_a_limit_is_written_as_durations_are_elsewhere(tell: Tell, limit: Any) -> None:
    shop[0].callback = timeout(limit)(plain)
    assert tell("/shop/plain")[1] == 300.0
    shop[0].callback = plain


@pytest.mark.parametrize("view", [Dispatched, None, "shop.views.plain"])
def test_what_is_no_view_is_refused_with_what_to_decorate_instead(view: Any) -> None:
    with pytest.raises(TypeError, match="method_decorator"):
        timeout(5)(view)


def test_a_view_that_is_decorated_in_one_place_is_not_in_others(tell: Tell) -> None:
    limited = timeout(3)(plain)
    assert limited is not plain
    assert tell("/plain")[1] == 0.0


def test_importing_the_package_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import django_wsgiserve as d; d.timeout;"
    code += "print(*sorted(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) <= {"__future__", "django_wsgiserve"}
