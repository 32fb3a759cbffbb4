"""Values as people write them, and what is made of those that are none."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.config import ServerConfig
from django_wsgiserve.config import values as values
from django_wsgiserve.config.options import Row
from django_wsgiserve.config.table import table
from django_wsgiserve.config.values import BadValue

ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=30),
    st.text(alphabet="0123456789.:[]-/smhdkMGiBxo,% ", max_size=20),
    st.binary(max_size=5),
    st.lists(st.one_of(st.text(max_size=20), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (30, 30.0),
        (0, 0.0),
        (0.5, 0.5),
        ("30", 30.0),
        ("30s", 30.0),
        (" 30 s ", 30.0),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("5m", 300.0),
        ("5min", 300.0),
        ("2H", 7200.0),
        ("1d", 86400.0),
        ("1h30m", 5400.0),
        ("1h 30m 5s", 5405.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_duration_is_read_as_seconds(written: object, seconds: float) -> None:
    assert values.parse_duration(written) == seconds


@pytest.mark.parametrize(
    "written",
    [-1, "-1s", "", "s", "5 parsecs", "1e3", "0x10", "1_0", "nan", float("nan"), float("inf"),
     10**400, True, None, [30], "30s30", "٣s", timedelta(seconds=-1)],
)  # fmt: skip
def test_what_is_no_duration_is_refused_and_shown(written: object) -> None:
    with pytest.raises(BadValue) as refused:
        values.parse_duration(written)
    assert repr(written) in str(refused.value)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1048576, 1048576),
        (0, 0),
        ("512", 512),
        ("512b", 512),
        ("512KiB", 512 * 1024),
        ("512k", 512 * 1024),
        ("300MiB", 300 * 1024**2),
        ("300 M", 300 * 1024**2),
        ("20MB", 20_000_000),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("1TiB", 1024**4),
    ],
)
def test_size_is_read_as_bytes(written: object, size: int) -> None:
    assert values.parse_size(written) == size


@pytest.mark.parametrize("written", [-1, "-1", "", "iB", "i", "5XB", 1.5, True, None, "1,5M"])
def test_what_is_no_size_is_refused(written: object) -> None:
    with pytest.raises(BadValue):
        values.parse_size(written)


@pytest.mark.parametrize(
    ("written", "mode"), [(0o660, 0o660), ("660", 0o660), ("0660", 0o660), ("0o600", 0o600)]
)
def test_mode_is_octal(written: object, mode: int) -> None:
    assert values.parse_mode(written) == mode


@pytest.mark.parametrize("written", [-1, "888", "0777777", "rw-r--r--", "", True, None])
def test_what_is_no_mode_is_refused(written: object) -> None:
    with pytest.raises(BadValue):
        values.parse_mode(written)


def test_decimal_number_meant_as_mode_is_answered_with_the_octal_one() -> None:
    with pytest.raises(BadValue) as refused:
        values.parse_mode(660)
    assert refused.value.example == "0o660"


@pytest.mark.parametrize(
    ("written", "addresses"),
    [
        ("127.0.0.1:8000", ("127.0.0.1:8000",)),
        ("localhost", ("localhost:8000",)),
        (":8000", ("0.0.0.0:8000",)),
        ("*:80", ("0.0.0.0:80",)),
        ("127.0.0.1:0", ("127.0.0.1:0",)),
        ("[::1]:8000", ("[::1]:8000",)),
        ("[::]", ("[::]:8000",)),
        ("tcp://127.0.0.1:80", ("127.0.0.1:80",)),
        ("unix:/run/app.sock", ("unix:/run/app.sock",)),
        ("unix:///run/app.sock", ("unix:/run/app.sock",)),
        ("unix:app.sock", ("unix:app.sock",)),
        ("fd://3", ("fd://3",)),
        ("127.0.0.1:80, [::1]:80", ("127.0.0.1:80", "[::1]:80")),
        (["127.0.0.1:80,unix:a"], ("127.0.0.1:80", "unix:a")),
        (("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:0", "127.0.0.1:0")),
    ],
)
def test_address_is_brought_into_one_form(written: object, addresses: tuple[str, ...]) -> None:
    assert values.parse_binds(written) == addresses
    assert values.parse_binds(addresses) == addresses


@pytest.mark.parametrize(
    ("written", "example"),
    [
        ("8000", "127.0.0.1:8000"),
        (8000, "127.0.0.1:8000"),
        ([8000], "127.0.0.1:8000"),
        ("::1", "[::1]:8000"),
        ("1:2:3", "[::]:8000"),
        ("/run/app.sock", "unix:/run/app.sock"),
        ("fd://x", "fd://3"),
        ("unix:", "unix:/run/app.sock"),
        ("unix:/run/", "unix:/run/app.sock"),
        (["127.0.0.1:80", "127.0.0.1:80"], "127.0.0.1:80"),
        ("127.0.0.1:65536", ""),
        ("127.0.0.1:http", ""),
        ("127.0.0.1:-1", ""),
        ("256.0.0.1:80", ""),
        ("1.2.3:80", ""),
        ("a b:80", ""),
        ("[::1:80", ""),
        ("[zz]:80", ""),
        ("http://localhost:8000", ""),
        ("unix:" + "x" * 108, ""),
        ("", ""),
        ([], ""),
        (None, ""),
        ("local\nhost:80", ""),
    ],
)
def test_what_is_no_address_is_refused_with_what_may_be_meant(
    written: object, example: str
) -> None:
    with pytest.raises(BadValue) as refused:
        values.parse_binds(written)
    assert refused.value.example == example


@pytest.mark.parametrize(
    ("written", "path"),
    [("-", "-"), ("/var/log/a.log", "/var/log/a.log"), (Path("/a"), "/a"), ("off", ""),
     ("None", ""), ("", "")],
)  # fmt: skip
def test_file_is_a_path_a_stream_or_none(written: object, path: str) -> None:
    assert values.parse_file(written) == path


@pytest.mark.parametrize(
    ("written", "paths"),
    [("/", ("/",)), ("/a,/b", ("/a", "/b")), (["/a"], ("/a",)), ([], ()), ("off", ()), ("", ())],
)
def test_paths_are_listed_or_none(written: object, paths: tuple[str, ...]) -> None:
    assert values.parse_paths(written) == paths


@pytest.mark.parametrize("written", ["home", [1], None, "/a b", "/ä"])
def test_path_must_start_at_the_root_of_the_site(written: object) -> None:
    with pytest.raises(BadValue):
        values.parse_paths(written)


@pytest.mark.parametrize(
    ("written", "form"),
    [("AUTO", "auto"), ("json", "json"), ('%(h)s "%(r)s"', '%(h)s "%(r)s"')],
)
def test_access_format_is_a_name_or_gunicorns(written: object, form: str) -> None:
    assert values.parse_access_format(written) == form


@pytest.mark.parametrize("written", ["", "common", "%h %r", "%(h", "%(zz)s", "%(h)s\n", 5])
def test_access_format_with_a_mistake_is_refused(written: object) -> None:
    with pytest.raises(BadValue):
        values.parse_access_format(written)


@pytest.mark.parametrize(("written", "workers"), [("auto", 0), (" Auto", 0), (4, 4), ("4", 4)])
def test_workers_are_counted_or_automatic(written: object, workers: int) -> None:
    assert values.parse_workers(written) == workers


@pytest.mark.parametrize("written", [0, "0", -1, "many", 2.5, True, None, ""])
def test_no_workers_at_all_are_refused(written: object) -> None:
    with pytest.raises(BadValue):
        values.parse_workers(written)


@pytest.mark.parametrize(
    ("written", "truth"), [(True, True), ("off", False), ("YES", True), ("0", False)]
)
def test_boolean_has_several_words(written: object, truth: bool) -> None:
    assert values.parse_boolean(written) is truth


@pytest.mark.parametrize("row", table(), ids=lambda row: row.key)
@given(value=ANYTHING)
def test_no_value_whatever_raises_anything_but_bad_value(row: Row, value: object) -> None:
    with contextlib.suppress(BadValue):
        row.option.parse(value)


@pytest.mark.parametrize("row", table(), ids=lambda row: row.key)
@given(value=ANYTHING)
def test_what_is_shown_of_a_value_reads_back_as_that_value(row: Row, value: object) -> None:
    with contextlib.suppress(BadValue):
        parsed = row.option.parse(value)
        assert row.option.parse(row.show(parsed)) == parsed


@given(seconds=st.integers(0, 10**8))
def test_duration_reads_back(seconds: int) -> None:
    assert values.parse_duration(values.show_duration(float(seconds))) == seconds


@given(size=st.integers(0, 2**50))
def test_size_reads_back(size: int) -> None:
    assert values.parse_size(values.show_size(size)) == size


@pytest.mark.parametrize("row", table(), ids=lambda row: row.key)
def test_default_and_example_are_accepted(row: Row) -> None:
    assert row.option.parse(row.example) is not None
    if not row.option.default_shown:
        assert row.option.parse(row.show(row.default)) == row.default


@pytest.mark.parametrize("row", table(), ids=lambda row: row.key)
def test_value_out_of_bounds_is_answered_with_the_bound(row: Row) -> None:
    for bound, beyond in ((row.option.minimum, -1), (row.option.maximum, 1)):
        if bound is None or (row.option.zero_is_maximum and bound + beyond == 0):
            continue
        with pytest.raises(BadValue):
            row.option.parse(type(row.default)(bound + beyond))
        if beyond == 1:
            with pytest.raises(BadValue) as refused:
                row.option.parse(type(row.default)(bound + beyond))
            assert row.option.parse(refused.value.example) == bound


def test_zero_limit_of_a_head_is_the_largest_one_as_it_is_unlimited_for_gunicorn() -> None:
    row = next(row for row in table() if row.key == "LIMIT_REQUEST_LINE")
    assert row.option.parse("0") == 1024**2


def test_names_in_the_table_are_unique() -> None:
    rows = table()
    flags = [flag for row in rows for flag in (row.flag, row.option.short, *row.option.aliases)]
    given_flags = [flag for flag in flags if flag]
    assert len({row.key for row in rows}) == len(rows)
    assert len(set(given_flags)) == len(given_flags)


def test_rows_are_in_the_order_of_their_topics() -> None:
    topics = [row.option.topic for row in table()]
    assert topics == sorted(topics, key=list(dict.fromkeys(topics)).index)


def test_every_field_but_the_reason_is_a_row() -> None:
    rows = {row.field for row in table()}
    assert set(ServerConfig().to_json()) - rows == {"workers_reason"}
