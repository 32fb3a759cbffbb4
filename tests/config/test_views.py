"""VIEWS: its form, what is said of a wrong one, and which entry wins."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.checks import run_checks
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path

from django_wsgiserve.checks import TAG
from django_wsgiserve.config import ServerConfig
from django_wsgiserve.config.resolution import CheckId, Problem, Resolution, Sources, resolve
from django_wsgiserve.config.views import ViewOptions, most_specific, parse_views, show_views
from tests.config.test_command_line import read


def unnamed(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


cart: list[URLPattern | URLResolver] = [
    path("pay", unnamed, name="pay"),
    path("unnamed", unnamed),
]
shop: list[URLPattern | URLResolver] = [
    path("cart/", include((cart, "cart"))),
    path("shelf", unnamed, name="shelf"),
]
plain = [path("about", unnamed, name="about-us")]
urlpatterns = [
    path("", unnamed, name="home"),
    path("shop/", include((shop, "shop"))),
    path("abroad/", include((shop, "shop"), namespace="shop-abroad")),
    path("pages/", include(plain)),
]


def resolved(views: object, **environment: str) -> Resolution:
    """Return the configuration with one value of VIEWS."""
    return resolve(Sources(settings={"VIEWS": views}, environment=environment))


def problems(views: object) -> list[Problem]:
    return list(resolved(views).problems)


def test_an_entry_says_how_long_a_view_may_run() -> None:
    views = resolved({"reports:export": {"TIMEOUT": "5m"}, "admin": {"TIMEOUT": 0}}).config.views
    assert views == (
        ViewOptions(name="reports:export", timeout_s=300.0),
        ViewOptions(name="admin", timeout_s=0.0),
    )


@pytest.mark.parametrize("nothing", [None, {}])
def test_no_views_are_no_problem(nothing: object) -> None:
    resolution = resolved(nothing)
    assert (resolution.config.views, resolution.problems) == ((), ())


def test_everything_wrong_is_said_at_once_with_its_place_and_a_line_to_paste() -> None:
    found = problems(
        {
            "a": {"TIMEOUT": "soon"},
            "good": {"TIMEOUT": "1s"},
            "b": {"TIMEOTU": "5m", "TIMEOUT": "25d"},
            "c": "5m",
            7: {},
        }
    )
    assert [(one.source, one.hint) for one in found] == [
        ('WSGISERVE["VIEWS"]["a"]["TIMEOUT"]', '"VIEWS": {"a": {"TIMEOUT": "5m"}},'),
        ('WSGISERVE["VIEWS"]["b"]["TIMEOTU"]', '"VIEWS": {"b": {"TIMEOUT": "5m"}},'),
        ('WSGISERVE["VIEWS"]["b"]["TIMEOUT"]', '"VIEWS": {"b": {"TIMEOUT": "24d"}},'),
        ('WSGISERVE["VIEWS"]["c"]', '"VIEWS": {"c": {"TIMEOUT": "5m"}},'),
        ('WSGISERVE["VIEWS"][7]', '"VIEWS": {"reports:export": {"TIMEOUT": "5m"}},'),
    ]
    assert {one.check for one in found} == {CheckId.BAD_SETTING}
    assert "'soon'" in found[0].message
    assert 'did you mean "TIMEOUT"?' in found[1].message


@pytest.mark.parametrize(
    "views",
    [
        {"a": {"TIMEOUT": "soon"}},
        {"a": {"TIMEOTU": 3}},
        {"a": {"XYZZY": 3}},
        {"a": 3},
        3,
        "x",
        {"": {}},
    ],
)
def test_the_line_to_paste_is_accepted(views: object) -> None:
    (problem,) = problems(views)
    pasted = eval(f"{{{problem.hint}}}")  # noqa: S307 - that it is Python is the claim
    assert problems(pasted["VIEWS"]) == []


def test_no_limit_is_written_0_and_not_none() -> None:
    (problem,) = problems({"admin": {"TIMEOUT": None}})
    assert problem.source == 'WSGISERVE["VIEWS"]["admin"]["TIMEOUT"]'


def test_bad_views_do_not_take_the_other_settings_with_them() -> None:
    bad = {"WORKERS": 3, "VIEWS": {"a": 1, "b": {"TIMEOUT": "5m"}}}
    config = resolve(Sources(settings=bad)).config
    assert (config.workers, config.views) == (3, ())


def test_views_are_given_in_settings_only() -> None:
    resolution = resolved(None, WSGISERVE_VIEWS='{"admin": {"TIMEOUT": 1}}')
    (problem,) = resolution.problems
    assert problem.source == "WSGISERVE_VIEWS"
    assert "only be given in settings.py" in problem.message
    assert resolution.config.views == ()
    command = read("--views", "x")
    assert "only be given in settings.py" in command.problems[0].message


def test_views_survive_the_way_to_the_supervisor() -> None:
    config = resolved({"reports:export": {"TIMEOUT": "5m"}, "admin": {}}).config
    assert ServerConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    newer = {**config.to_json(), "views": [{"name": "a", "timeout_s": 1.0, "of_tomorrow": 3}]}
    assert ServerConfig.from_json(newer).views == (ViewOptions(name="a", timeout_s=1.0),)


def test_what_is_shown_reads_back() -> None:
    views: dict[str, Any] = {"reports:é": {"TIMEOUT": "90s"}, 'a"b': {"TIMEOUT": 0}, "c": {}}
    parsed = parse_views(views)
    assert parse_views(show_views(parsed)) == parsed


@pytest.mark.parametrize(
    ("namespaces", "name", "timeout_s"),
    [
        (["shop", "cart"], "pay", 3.0),
        (["shop", "cart"], "list", 2.0),
        (["shop", "stock"], "list", 1.0),
        (["shop"], "home", 1.0),
        ([], "pay", None),
        ([], "shop", 1.0),
        (["other"], "shop", None),
        (["shopping"], "list", None),
        (["shop"], "shop.views.unnamed", 7.0),
        (["cart", "shop"], "list", None),
    ],
)
def test_the_most_specific_entry_wins(
    namespaces: list[str], name: str, timeout_s: float | None
) -> None:
    views = parse_views(
        {
            "shop": {"TIMEOUT": 1},
            "shop:cart": {"TIMEOUT": 2},
            "shop:cart:pay": {"TIMEOUT": 3},
            "shop:shop.views.unnamed": {"TIMEOUT": 7},
        }
    )
    assert most_specific(views, namespaces, name).timeout_s == timeout_s


def test_an_entry_that_says_nothing_leaves_it_to_the_next() -> None:
    views = parse_views({"shop": {"TIMEOUT": 1}, "shop:cart": {}})
    assert most_specific(views, ["shop", "cart"], "pay").timeout_s == 1.0


def found_by_check(settings: Any, views: object, urlconf: str | None = __name__) -> list[Any]:
    """Return id, message and hint of what `manage.py check` says of VIEWS."""
    settings.ROOT_URLCONF = urlconf
    settings.WSGISERVE = {"VIEWS": views}
    return [(one.id, one.msg, one.hint) for one in run_checks(tags=[TAG])]


@pytest.mark.parametrize(
    "name",
    [
        "home",
        "about-us",
        "shop",
        "shop:shelf",
        "shop:cart",
        "shop:cart:pay",
        f"shop:cart:{__name__}.unnamed",
        "shop-abroad",
        "shop-abroad:cart:pay",
    ],
)
def test_a_name_that_the_urlconf_has_is_no_error(settings: Any, name: str) -> None:
    assert found_by_check(settings, {name: {"TIMEOUT": 1}}) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hoem", "home"),
        ("pay", "shop:cart:pay"),
        ("shelf", "shop:shelf"),
        ("cart:pay", "shop:cart:pay"),
        ("shop:cart:", "shop:cart"),
        ("shop:crat:pay", "shop:cart:pay"),
        ("about_us", "about-us"),
        (f"{__name__}.unnamed", "home"),
    ],
)
def test_a_name_that_it_has_not_is_an_error_with_what_was_meant(
    settings: Any, name: str, meant: str
) -> None:
    ((check, message, hint),) = found_by_check(settings, {name: {"TIMEOUT": 1}})
    assert check == CheckId.UNKNOWN_VIEW.value
    assert f'"{name}"' in message
    assert hint == f'Did you mean "{meant}"?'


def test_a_name_like_no_other_is_answered_with_how_to_go_on(settings: Any) -> None:
    ((_, _, hint),) = found_by_check(settings, {"xyzzy": {"TIMEOUT": 1}})
    assert "SILENCED_SYSTEM_CHECKS" in hint
    settings.SILENCED_SYSTEM_CHECKS = [CheckId.UNKNOWN_VIEW.value]
    assert all(one.is_silenced() for one in run_checks(tags=[TAG]))


def test_a_project_without_urls_has_no_names(settings: Any) -> None:
    ((check, _, _),) = found_by_check(settings, {"home": {"TIMEOUT": 1}}, urlconf=None)
    assert check == CheckId.UNKNOWN_VIEW.value


def test_the_urlconf_is_not_loaded_where_views_say_nothing(settings: Any) -> None:
    assert found_by_check(settings, {}, urlconf="no.such.module") == []
