"""What a project must be before it is forked, and what is said when it is not."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import checks
from django.core.checks import Error, Warning  # noqa: A004 - Django's name for it
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.errors import AppLoadError, CheckRefused, ExitCode
from django_wsgiserve.integration import proving
from django_wsgiserve.integration.tracebacks import project_traceback
from django_wsgiserve.integration.views import NAME_VIEW, name_views
from django_wsgiserve.integration.warmup import Visitor, visitor, warm_up

WHO = Visitor(host="localhost", scheme="http")


def well(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.scheme}://{request.get_host()}{request.get_full_path()}")


def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the shelf is empty")


def stuck(request: HttpRequest) -> HttpResponse:
    threading.Event().wait()
    return HttpResponse()


urlpatterns = [path("", well), path("broken", broken), path("stuck", stuck)]


@pytest.fixture
def application(settings: Any) -> Any:
    """Return a Django application with the views of this file and no middleware."""
    from django.core.wsgi import get_wsgi_application

    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.ALLOWED_HOSTS = ["*"]
    settings.DEBUG = False
    return get_wsgi_application()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory that can be imported from; what was imported is forgotten after."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(wsgi_application: str | None) -> AppLoadError:
    """Return why the application is not loaded."""
    with override_settings(WSGI_APPLICATION=wsgi_application):
        with pytest.raises(AppLoadError) as refusal:
            proving.load_application()
        assert refusal.value.exit_code is ExitCode.APP_FAILED
        return refusal.value


def test_the_application_is_what_the_setting_names(project: Path) -> None:
    (project / "shop_a.py").write_text("def application(environ, start_response): ...\n")
    with override_settings(WSGI_APPLICATION="shop_a.application"):
        assert proving.load_application() is sys.modules["shop_a"].application


def test_without_the_setting_the_line_to_add_is_shown() -> None:
    assert 'WSGI_APPLICATION = "example_project.wsgi.application"' in str(refused(None))


def test_a_module_that_is_not_there_names_the_line_of_the_settings() -> None:
    message = str(refused("no_such_shop.wsgi.application"))
    assert "there is no module 'no_such_shop'" in message
    assert "settings.py, line " in message


def test_a_module_missing_in_the_project_names_file_and_line_of_the_import(project: Path) -> None:
    (project / "shop_b.py").write_text("import os\n\nimport no_such_library\n")
    message = str(refused("shop_b.application"))
    assert f"{project / 'shop_b.py'}, line 3: ModuleNotFoundError" in message
    assert "Install what provides 'no_such_library'" in message


def test_a_syntax_error_names_its_own_line(project: Path) -> None:
    (project / "shop_c.py").write_text("x = 1\ndef (:\n")
    assert f"{project / 'shop_c.py'}, line 2: SyntaxError" in str(refused("shop_c.application"))


def test_the_traceback_begins_with_the_project(project: Path) -> None:
    (project / "shop_d.py").write_text("def fail():\n    return 1 / 0\n\nfail()\n")
    error = refused("shop_d.application")
    assert error.__cause__ is not None
    lines = project_traceback(error.__cause__).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert "shop_d.py" in lines[1]
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "proving.py" not in "".join(lines)


def test_a_project_that_exits_is_not_loaded(project: Path) -> None:
    (project / "shop_e.py").write_text("import sys\nsys.exit('no licence')\n")
    assert "line 2: SystemExit: no licence" in str(refused("shop_e.application"))


def test_an_import_that_hangs_is_broken_off_and_says_where(project: Path) -> None:
    (project / "shop_h.py").write_text("import threading\n\nthreading.Event().wait()\n")
    with (
        override_settings(WSGI_APPLICATION="shop_h.application"),
        pytest.raises(AppLoadError) as refusal,
    ):
        proving.load_checked(0.2)
    where = f"{project / 'shop_h.py'}, line 3"
    assert f"has not loaded within 0.2 s and hangs in {where}" in str(refusal.value)
    assert refusal.value.__cause__ is not None
    assert "TooLong" not in project_traceback(refusal.value.__cause__)


def test_a_name_that_the_module_lacks_is_said(project: Path) -> None:
    (project / "shop_f.py").write_text("app = None\n")
    assert "defines no 'application'" in str(refused("shop_f.application"))


def test_what_cannot_be_called_is_refused(project: Path) -> None:
    (project / "shop_g.py").write_text("application = 'soon'\n")
    assert "is str 'soon', which is not callable" in str(refused("shop_g.application"))


@pytest.fixture
def check_result() -> Iterator[list[checks.CheckMessage]]:
    """Return a list; what is put into it is what one of the system checks finds."""
    found: list[checks.CheckMessage] = []

    def a_check(app_configs: Any, **_: Any) -> list[checks.CheckMessage]:
        return found

    checks.registry.registry.registered_checks.add(checks.register(a_check))
    yield found
    checks.registry.registry.registered_checks.discard(a_check)


def test_a_check_error_refuses_with_id_and_hint(
    check_result: list[checks.CheckMessage],
) -> None:
    check_result.append(Error("The shelf is empty.", hint="Fill it.", id="shop.E001"))
    with pytest.raises(CheckRefused) as refusal:
        proving.run_checks()
    assert refusal.value.exit_code is ExitCode.REFUSED
    assert "(shop.E001) The shelf is empty." in str(refusal.value)
    assert "HINT: Fill it." in str(refusal.value)


def test_a_silenced_error_does_not_refuse(
    check_result: list[checks.CheckMessage], settings: Any
) -> None:
    check_result.append(Error("The shelf is empty.", id="shop.E001"))
    settings.SILENCED_SYSTEM_CHECKS = [*settings.SILENCED_SYSTEM_CHECKS, "shop.E001"]
    assert "shop.E001" not in proving.run_checks()


def test_warnings_are_counted_and_named(check_result: list[checks.CheckMessage]) -> None:
    check_result.append(Warning("The shelf is dusty.", id="shop.W002"))
    summary = proving.run_checks()
    assert "warning" in summary
    assert "shop.W002" in summary


def test_a_project_that_raises_in_a_check_is_not_loaded(project: Path, settings: Any) -> None:
    (project / "shop_urls.py").write_text("\n\nraise OSError('no disk')\n")
    settings.ROOT_URLCONF = "shop_urls"
    with pytest.raises(AppLoadError, match=r"shop_urls\.py, line 3: OSError: no disk"):
        proving.run_checks()


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ([], "localhost"),
        (["*"], "localhost"),
        (["shop.example", "*"], "localhost"),
        (["shop.example", "other.example"], "shop.example"),
        ([".shop.example"], "shop.example"),
        (["[::1]"], "[::1]"),
    ],
)
def test_the_host_is_one_that_allowed_hosts_accepts(
    settings: Any, allowed: list[str], host: str
) -> None:
    settings.ALLOWED_HOSTS = allowed
    assert visitor().host == host


def test_a_warm_up_request_is_a_visit(application: Any) -> None:
    (answer,) = warm_up(application, ("/?q=a",), WHO, 10)
    assert (answer.path, answer.status, answer.failed) == ("/?q=a", 200, False)


def test_a_page_that_is_not_there_is_an_answer(application: Any) -> None:
    (answer,) = warm_up(application, ("/nowhere",), WHO, 10)
    assert (answer.status, answer.failed) == (404, False)


def test_a_failing_page_is_told_with_its_traceback(application: Any) -> None:
    (answer,) = warm_up(application, ("/broken",), WHO, 10)
    assert (answer.status, answer.failed) == (500, True)
    assert answer.detail.endswith("RuntimeError: the shelf is empty\n")


def test_an_application_that_raises_is_a_failing_page() -> None:
    def application(environ: Any, start_response: Any) -> Any:
        raise KeyError("shelf")

    (answer,) = warm_up(application, ("/",), WHO, 10)
    assert (answer.status, answer.failed) == (500, True)
    assert "KeyError: 'shelf'" in answer.detail


def test_a_page_that_never_answers_is_broken_off_and_the_next_one_asked(application: Any) -> None:
    stuck_answer, answer = warm_up(application, ("/stuck", "/"), WHO, 0.2)
    assert (stuck_answer.status, stuck_answer.failed) == (0, True)
    assert answer.status == 200


def test_https_is_used_where_http_redirects(application: Any, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware"]
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    from django.core.wsgi import get_wsgi_application

    (answer,) = warm_up(get_wsgi_application(), ("/",), visitor(), 10)
    assert answer.status == 200


def test_at_the_first_start_a_failing_page_is_a_note(application: Any) -> None:
    (note,) = proving.try_out(application, ServerConfig(warmup=("/", "/broken")), first=True)
    assert note == (
        "the warm-up request of '/broken' failed: status 500 (RuntimeError: the shelf is empty)"
    )


def test_on_a_reload_a_failing_page_refuses_the_new_code(application: Any) -> None:
    with pytest.raises(proving.WarmUpFailed) as refusal:
        proving.try_out(application, ServerConfig(warmup=("/broken",)), first=False)
    assert "RuntimeError" in refusal.value.detail


def test_code_that_answers_nobody_is_refused_on_a_reload(application: Any, settings: Any) -> None:
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    settings.ALLOWED_HOSTS = []
    settings.DEBUG = False
    from django.core.wsgi import get_wsgi_application

    closed, warmup = get_wsgi_application(), ServerConfig(warmup=("/",))
    said = "the warm-up request of '/' failed: status 400, since ALLOWED_HOSTS is empty"
    assert proving.try_out(closed, warmup, first=True) == (said,)
    with pytest.raises(proving.WarmUpFailed, match="ALLOWED_HOSTS is empty"):
        proving.try_out(closed, warmup, first=False)


def test_debug_is_noted(settings: Any) -> None:
    settings.DEBUG = False
    assert proving.doubtful_settings() == ()
    settings.DEBUG = True
    (note,) = proving.doubtful_settings()
    assert "DEBUG is on" in note


def test_the_view_is_named_before_it_runs(application: Any) -> None:
    told: list[tuple[str, float]] = []

    def name_view(name: str, timeout_s: float) -> None:
        told.append((name, timeout_s))

    def with_name_view(environ: dict[str, Any], start_response: Any) -> Any:
        return application({**environ, NAME_VIEW: name_view}, start_response)

    name_views()
    name_views()
    list(warm_up(with_name_view, ("/", "/broken"), WHO, 10))
    assert told == [(f"{__name__}.well", 0.0), (f"{__name__}.broken", 0.0)]
