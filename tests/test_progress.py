"""Progress bars: what a run that goes on says of the time left."""

import re
import time

import pytest

from matscout.engine import held_for_each
from matscout.progress import DELAY, progress


@pytest.fixture(autouse=True)
def drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command that another test called here has set."""
    monkeypatch.delenv(DELAY, raising=False)


def test_a_bar_of_quick_work_is_not_drawn_where_a_delay_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DELAY, "3")
    list(progress(range(3), description="quick"))
    assert "quick" not in capsys.readouterr().err
    monkeypatch.delenv(DELAY)
    list(progress(range(3), description="quick"))
    assert "quick: 100%" in capsys.readouterr().err


def test_rate_of_a_resumed_run_counts_its_own_steps_only() -> None:
    with progress(description="resumed", total=1_000_000, done=900_000, unit="step") as bar:
        bar.mininterval = 0  # every update is drawn, and so enters the rate
        for _ in range(3):
            time.sleep(0.01)
            bar.update(1)
        assert bar.n == 900_003
        assert bar.format_dict["rate"] <= 100


def test_shards_that_are_judged_here_show_how_many_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    def judge(_shard: int) -> None:
        list(progress(range(2), description="predict", unit="crystal"))

    held_for_each(judge, range(3), workers=1, description="judging", unit="shard")
    told = capsys.readouterr().err
    assert re.search(r"judging: 100%.* 3/3 ", told)
    assert len(re.findall(r"predict: 100%.* 2/2 ", told)) == 3
