"""How fast is downloaded: a limit that several processes keep together, and windows of the day."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from edge_agent.config.configuration import Bandwidth, BandwidthWindow
from edge_agent.config.windows import Window
from edge_agent.sources.base import PausedError
from edge_agent.sources.pace import Pace, opens
from tests.edge_agent.support.origins import device, make, registry, sources, whole
from tests.edgepack.support.registry_simulator import Simulator, running

NOON = datetime.fromisoformat("2026-11-30T12:00")  # a Monday


class Time:
    """A clock that goes on while somebody sleeps."""

    def __init__(self, start: float = 1000.0) -> None:
        self.seconds = start

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def window(start: int, end: int, rate: int | None, *days: int) -> BandwidthWindow:
    return BandwidthWindow(Window(start * 60, end * 60, days or tuple(range(7))), rate)


def pace(bandwidth: Bandwidth, time: Time, file: Path | None = None, moment: datetime = NOON) -> Pace:
    return Pace(bandwidth, file, now=lambda: moment, clock=time.now, sleep=time.sleep)


def test_what_is_taken_takes_as_long_as_the_limit_says() -> None:
    time = Time()
    one = pace(Bandwidth(1000), time)
    for _ in range(40):
        one.take(one.piece())
    assert time.seconds - 1000 == pytest.approx(40 * 512 / 1000)


def test_a_limit_is_for_all_processes_of_a_device_together(tmp_path: Path) -> None:
    time, file = Time(), tmp_path / "bandwidth"
    several = [pace(Bandwidth(10_000), time, file) for _ in range(4)]
    for _ in range(10):
        for one in several:
            one.take(2500)
    assert time.seconds - 1000 == pytest.approx(10.0)


@pytest.mark.parametrize("content", [b"", b"\0", b"\xff" * 8, b"\0\0\0\0\0\0\xf8\x7f", b"\0" * 6 + b"\xf0\x7f"])
def test_a_file_of_an_earlier_boot_or_one_that_is_damaged_holds_nobody_up(tmp_path: Path, content: bytes) -> None:
    time, file = Time(5.0), tmp_path / "bandwidth"
    file.write_bytes(content)
    one = pace(Bandwidth(1000), time, file)
    one.take(500)
    assert time.seconds == pytest.approx(5.5)
    before = pace(Bandwidth(1000), Time(1e6), file)  # the clock of the boot before
    before.take(500)
    one.take(500)
    assert time.seconds == pytest.approx(6.0)


def test_pieces_are_small_where_the_limit_is_low() -> None:
    time = Time()
    assert pace(Bandwidth(), time).piece() == 1 << 18
    assert pace(Bandwidth(100), time).piece() == 512
    assert pace(Bandwidth(40_000), time).piece() == 10_000


def test_the_first_window_that_is_open_says_how_fast() -> None:
    bandwidth = Bandwidth(1000, (window(8, 18, 0), window(22, 6, None)))
    assert not pace(Bandwidth(), Time()).limited
    for hour, seconds in ((7, 0.5), (23, 0.0), (2, 0.0)):
        time = Time()
        pace(bandwidth, time, moment=NOON.replace(hour=hour)).take(500)
        assert time.seconds - 1000 == pytest.approx(seconds)
    with pytest.raises(PausedError, match=r"nothing may be downloaded until Monday 18:00, .*by itself") as caught:
        pace(bandwidth, Time()).take(1)
    assert caught.value.until == NOON.replace(hour=18)


def test_when_something_may_be_downloaded_again() -> None:
    nights = Bandwidth(0, (window(22, 6, None, 4, 5),))  # from Friday and Saturday evening
    assert opens(nights, NOON) == datetime.fromisoformat("2026-12-04T22:00")
    closed_by_day = Bandwidth(None, (window(6, 22, 0),))
    assert opens(closed_by_day, NOON) == NOON.replace(hour=22)
    all_day = Bandwidth(None, (window(6, 12, 0), window(12, 22, 0), window(22, 6, 5)))
    assert opens(all_day, NOON - timedelta(hours=2)) == NOON.replace(hour=22)
    assert opens(Bandwidth(0), NOON) is None
    with pytest.raises(PausedError, match="give bandwidth a window with a rate above 0"):
        pace(Bandwidth(0), Time()).check()


def test_a_download_keeps_to_the_limit_and_stops_and_goes_on_with_its_window(tmp_path: Path) -> None:
    made = make(tmp_path / "store")
    on = device(tmp_path / "dev", made)
    time, moment = Time(), [NOON]
    bandwidth = Bandwidth(100_000, (window(18, 6, 0),))

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if time.seconds > 1004:
            moment[0] = NOON.replace(hour=19)

    with running(Simulator()) as simulator:
        made.into(simulator)
        fetcher = sources(
            on, registry(simulator), bandwidth=bandwidth, now=lambda: moment[0], clock=time.now, sleep=sleep
        )
        with pytest.raises(PausedError, match="until Tuesday 06:00"):
            fetcher.fetch(made.digest, names=["churn"])
        simulator.seen.clear()
        with pytest.raises(PausedError):
            fetcher.fetch(made.digest, names=["churn"])
        assert simulator.seen == []
        moment[0], time.seconds, simulator.sent = NOON, 0.0, 0
        fetcher.fetch(made.digest, names=["churn"])
        assert simulator.sent < 500_000  # the first four seconds' bytes were kept
        assert time.seconds == pytest.approx(simulator.sent / 100_000, rel=0.3)
    assert whole(on, made)
