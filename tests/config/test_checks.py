"""What `manage.py check` says of the configuration."""

from __future__ import annotations

import pytest
from django.core.checks import Error, run_checks
from django.test import override_settings

from django_wsgiserve.checks import TAG
from django_wsgiserve.config.resolution import CheckId
from django_wsgiserve.settings import resolve_project


def errors() -> list[tuple[str | None, str, str | None]]:
    """Return id, message and hint of what our checks say."""
    found = run_checks(tags=[TAG])
    assert all(isinstance(error, Error) for error in found)
    return [(error.id, error.msg, error.hint) for error in found]


@override_settings(WSGISERVE={"WORKERS": 2})
def test_sound_configuration_has_no_errors() -> None:
    assert errors() == []


@override_settings(WSGISERVE={"WORKRES": 2, "TIMEOUT": "soon"})
def test_misspelt_key_and_bad_value_are_errors_with_a_hint_to_paste() -> None:
    (unknown_id, unknown, unknown_hint), (bad_id, bad, bad_hint) = errors()
    assert unknown_id == "wsgiserve.E002"
    assert 'WSGISERVE["WORKRES"]' in unknown
    assert unknown_hint == '"WORKERS": 2,'
    assert bad_id == "wsgiserve.E003"
    assert "'soon'" in bad
    assert bad_hint == '"TIMEOUT": "30s",'


@override_settings(WSGISERVE={"WORKRES": 2, "TIMEOUT": "soon"})
def test_silenced_check_no_longer_stops_the_server() -> None:
    with override_settings(SILENCED_SYSTEM_CHECKS=["wsgiserve.E002"]):
        (problem,) = resolve_project().problems
    assert problem.check is CheckId.BAD_SETTING


@override_settings(WSGISERVE=["WORKERS"])
def test_settings_that_are_no_dict_are_an_error() -> None:
    ((check_id, message, hint),) = errors()
    assert check_id == "wsgiserve.E001"
    assert "['WORKERS']" in message
    assert hint == 'WSGISERVE = {"WORKERS": 4}'


@pytest.mark.parametrize("application", [None, "", "application", "site wsgi.application", 7])
def test_application_that_is_not_named_is_an_error(application: object) -> None:
    with override_settings(WSGISERVE=None, WSGI_APPLICATION=application):
        ((check_id, message, hint),) = errors()
    assert check_id == "wsgiserve.E006"
    assert "WSGI_APPLICATION" in message
    assert hint == 'WSGI_APPLICATION = "example_project.wsgi.application"'


@override_settings(WSGISERVE=None)
def test_variables_are_checked_but_not_those_of_the_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "not a port")
    monkeypatch.setenv("WSGISERVE_WORKERS", "many")
    monkeypatch.setenv("WSGISERVE_TIMEUOT", "3")
    assert sorted(str(check_id) for check_id, _, _ in errors()) == [
        "wsgiserve.E004",
        "wsgiserve.E005",
    ]
