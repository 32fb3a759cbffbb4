"""Lines on their way to a device that takes them, or does not."""

from __future__ import annotations

import errno
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_wsgiserve.logs.devices import Device
from tests.logs.devices import ScriptedDevice, Target


def failing_to_open() -> Device:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_nothing_is_written_before_the_flush_and_all_with_one_write() -> None:
    device = ScriptedDevice([])
    log = Target(lambda: device)
    log.write(b"one", b"two", b"three")
    assert log.target.is_held
    assert device.taken == b""
    device.script = [1000]
    log.target.flush()
    assert device.taken == b"one\ntwo\nthree\n"
    assert device.script == []
    assert not log.target.is_held


def test_one_write_holds_whole_lines_and_no_more_than_stay_together() -> None:
    device = ScriptedDevice([1000])
    log = Target(lambda: device)
    log.write(*[b"x" * 19] * 5)
    device.script = [1000, 0]
    log.target.flush()
    assert len(device.taken) == 60


def test_line_longer_than_that_is_one_write() -> None:
    device = ScriptedDevice([1000, 1000, 0])
    log = Target(lambda: device)
    log.write(b"a", b"b" * 200, b"c")
    log.target.flush()
    assert device.taken == b"a\n" + b"b" * 200 + b"\n"


def test_rest_of_a_line_goes_before_everything_else() -> None:
    device = ScriptedDevice([3, 0])
    log = Target(lambda: device)
    log.write(b"first line")
    log.target.flush()
    log.write(b"second line")
    log.flush_later()
    assert device.taken == b"first line\nsecond line\n"


def test_full_device_is_left_alone_for_a_while() -> None:
    device = ScriptedDevice([0])
    log = Target(lambda: device)
    log.write(b"one")
    log.target.flush()
    log.target.flush()
    assert device.taken == b""
    assert log.target.failure is None
    log.flush_later()
    assert device.taken == b"one\n"


def test_lines_beyond_the_bound_are_dropped_and_counted_where_they_are_missing() -> None:
    device = ScriptedDevice([0])
    log = Target(lambda: device, held_bytes=40)
    log.write(*[b"kept line"] * 4)
    log.target.flush()
    log.write(*[b"lost line"] * 7)
    log.flush_later()
    log.write(b"next line")
    log.target.flush()
    assert device.taken == b"kept line\n" * 4 + b"dropped 7\n" + b"next line\n"


def test_dropping_goes_on_until_half_of_what_is_held_is_gone() -> None:
    device = ScriptedDevice([0])
    log = Target(lambda: device, held_bytes=200)
    log.write(*[b"kept line"] * 20)
    log.write(b"lost line")
    log.target.flush()
    device.script = [60, 0]
    log.flush_later()
    log.write(b"lost line")
    device.script = [60, 0]
    log.flush_later()
    log.write(b"new line")
    log.flush_later()
    assert device.taken == b"kept line\n" * 20 + b"dropped 2\nnew line\n"


def test_failure_is_reported_once_and_again_after_it_was_over() -> None:
    no_space = OSError(errno.ENOSPC, "No space left on device")
    device = ScriptedDevice([no_space, no_space])
    log = Target(lambda: device)
    log.write(b"one")
    log.target.flush()
    log.flush_later()
    assert len(log.reports) == 1
    assert "test log: No space left on device" in log.reports[0]
    log.flush_later()
    assert (device.taken, log.target.failure) == (b"one\n", None)
    device.script = [no_space]
    log.write(b"two")
    log.flush_later()
    assert len(log.reports) == 2


def test_device_that_cannot_be_opened_is_tried_again() -> None:
    device = ScriptedDevice([])
    results: list[Device | OSError] = [PermissionError(errno.EACCES, "Permission denied"), device]

    def open_device() -> Device:
        result = results.pop(0)
        if isinstance(result, OSError):
            raise result
        return result

    log = Target(open_device)
    log.target.open()
    assert log.reports == [
        "cannot write the test log: Permission denied; lines are kept, then dropped"
    ]
    log.write(b"one")
    log.target.flush()
    assert device.taken == b""
    log.flush_later()
    assert device.taken == b"one\n"


def test_reopening_goes_on_with_the_new_device_at_the_start_of_a_line() -> None:
    old, new = ScriptedDevice([3, 0, 0]), ScriptedDevice([])
    devices: list[Device] = [old, new]
    log = Target(lambda: devices.pop(0))
    log.write(b"first line", b"second line")
    log.target.flush()
    log.target.reopen()
    assert old.taken == b"first line\n"
    assert new.taken == b"second line\n"


def test_rest_of_a_line_that_the_old_device_refuses_does_not_go_to_the_new_one() -> None:
    old, new = ScriptedDevice([3, 0, 0, 0]), ScriptedDevice([])
    devices: list[Device] = [old, new]
    log = Target(lambda: devices.pop(0))
    log.write(b"first line")
    log.target.flush()
    log.target.reopen()
    log.write(b"second line")
    log.target.flush()
    assert (old.taken, new.taken) == (b"fir", b"second line\n")


def test_old_device_stays_in_use_when_reopening_fails() -> None:
    device = ScriptedDevice([])
    log = Target(lambda: device)
    log.target.open()
    object.__setattr__(log.target.spec, "open_device", failing_to_open)
    log.target.reopen()
    log.write(b"one")
    log.target.flush()
    assert device.taken == b"one\n"
    assert log.reports == [
        "cannot reopen the test log: Permission denied; the file that was open stays in use"
    ]


def test_closing_writes_what_is_held_without_regard_to_the_back_off() -> None:
    device = ScriptedDevice([0])
    log = Target(lambda: device)
    log.write(b"one")
    log.target.flush()
    log.target.close()
    assert device.taken == b"one\n"


@pytest.mark.parametrize("entry", [0, OSError(errno.EPIPE, "Broken pipe")])
def test_closing_gives_up_on_a_device_that_takes_nothing(entry: int | OSError) -> None:
    device = ScriptedDevice([entry] * 1000)
    log = Target(lambda: device)

    class Impatient(ScriptedDevice):
        def wait(self, timeout_s: float) -> None:
            log.clock.now_s += 0.1

    impatient = Impatient([entry] * 1000)
    object.__setattr__(log.target.spec, "open_device", lambda: impatient)
    log.write(b"one")
    log.target.close()
    assert impatient.taken == b""
    assert len(impatient.script) > 980


def test_lines_of_several_threads_all_arrive_whole() -> None:
    device = ScriptedDevice([])
    log = Target(lambda: device, held_bytes=10_000_000)

    def write(name: bytes) -> None:
        for number in range(500):
            log.write(b"%s %d" % (name, number))
            if number % 7 == 0:
                log.target.flush()

    threads = [threading.Thread(target=write, args=(name,)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.target.close()
    lines = device.taken.splitlines()
    for name in (b"a", b"b", b"c"):
        own = [line for line in lines if line.startswith(name)]
        assert own == [b"%s %d" % (name, number) for number in range(500)]
    assert len(lines) == 1500


steps = st.lists(
    st.one_of(
        st.binary(max_size=90).map(lambda data: data.replace(b"\n", b"")),
        st.just("flush"),
    ),
    max_size=60,
)
behaviour = st.lists(
    st.one_of(
        st.integers(min_value=0, max_value=100),
        st.builds(OSError, st.sampled_from([errno.EPIPE, errno.ENOSPC, errno.EIO]), st.just("x")),
    ),
    max_size=40,
)


@given(steps, behaviour)
def test_every_line_is_written_whole_in_order_or_counted(
    steps: list[bytes | str], script: list[int | OSError]
) -> None:
    device = ScriptedDevice(script)
    log = Target(lambda: device, held_bytes=300)
    written: list[bytes] = []
    for step in steps:
        if isinstance(step, bytes):
            written.append(b"%d:" % len(written) + step)
            log.write(written[-1])
        else:
            log.flush_later()
    while log.target.is_held:
        log.flush_later()
    position = 0
    for line in device.taken.removesuffix(b"\n").split(b"\n") if device.taken else []:
        if line.startswith(b"dropped "):
            position += int(line.split()[1])
        else:
            assert line == written[position]
            position += 1
    assert position == len(written)
