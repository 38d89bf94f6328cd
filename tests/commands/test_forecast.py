"""The forecast: closed forms, and the time of real work; no time is asserted."""

from dataclasses import replace
from pathlib import Path

import pytest
from imports import ROOT

from matscout.commands.forecast import (
    COSTS,
    DVC_S,
    LIVE_EDGES,
    START_S,
    STEPS_TO_TRAINING,
    Speed,
    forecast,
    forecast_lines,
    makespan,
    measure_speed,
    rows_of_databases,
)
from matscout.commands.profile import put_in
from matscout.params import check_params, load_params


@pytest.fixture(scope="module")
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def speed(params):
    return Speed(1.0, dict.fromkeys(params.members, 1.0), dict.fromkeys(params.members, 0.1), cores=2)


def rows(n):
    return {"materials_project": (n, "recorded"), "aflow": (n // 10, "recorded"), "oqmd": (n // 10, "recorded")}


def changed(params, change):
    tree = params.model_dump(mode="json")
    change(tree)
    return check_params(tree, Path("changed"))


def by_stage(told):
    return {stage.stage: stage for stage in told.stages}


def test_a_training_takes_epochs_times_rows_times_its_rate(params, speed):
    told = by_stage(forecast(params, rows(7000), speed))["train@cgcnn"]
    epochs = params.members["cgcnn"].training.epochs
    assert told.rows == round(0.8 * 8400) + params.hypothetical.per_epoch
    assert told.minutes * 60 == pytest.approx(START_S + DVC_S + epochs * told.rows * 1e-3 * STEPS_TO_TRAINING)


def test_a_stage_takes_its_recorded_cost_and_cores_divide_a_part_of_it(params, speed):
    cost = COSTS["featurize"]
    n_rows = 8400 + params.hypothetical.n
    for cores in (1, 2, 16):
        told = by_stage(forecast(params, rows(7000), replace(speed, cores=cores)))["featurize"]
        seconds = cost.fixed_s + n_rows * cost.row_ms / 1000 * (1 - cost.divided + cost.divided / cores)
        assert told.minutes * 60 == pytest.approx(seconds + DVC_S)
        assert told.disk_gb == pytest.approx(2 * n_rows * cost.disk_kb / 1e6)


def test_every_figure_of_every_stage_grows_with_rows(params, speed):
    few, many = (by_stage(forecast(params, rows(n), speed)) for n in (7000, 70_000))
    for name, stage in few.items():
        more = many[name]
        assert (more.rows, more.minutes, more.memory_gb, more.disk_gb) >= (stage.rows, stage.minutes, 0, 0), name
        assert more.minutes >= stage.minutes, name
        assert more.memory_gb >= stage.memory_gb, name
        assert more.disk_gb >= stage.disk_gb, name


@pytest.mark.parametrize(
    "more",
    [
        lambda tree: tree["members"]["cogn"]["training"].update(epochs=400),
        lambda tree: tree["candidates"].update(n=1_000_000),
        lambda tree: tree["members"].update(mine=tree["members"]["cgcnn"]),
        lambda tree: tree["relaxation"].update(n=500),
    ],
    ids=["epochs", "candidates", "members", "relaxed"],
)
def test_more_work_takes_longer(more, params, speed):
    larger = changed(params, more)
    faster = Speed(1.0, dict.fromkeys(larger.members, 1.0), dict.fromkeys(larger.members, 0.1), cores=2)
    assert forecast(larger, rows(7000), faster).minutes > forecast(params, rows(7000), speed).minutes


def test_the_sums(params, speed):
    told = forecast(params, rows(7000), speed)
    trained = [stage.minutes for stage in told.stages if stage.stage.startswith("train@")]
    others = [stage.minutes for stage in told.stages if not stage.stage.startswith("train@")]
    assert told.minutes == pytest.approx(makespan(trained, 2) + sum(others))
    assert told.disk_gb == pytest.approx(sum(stage.disk_gb for stage in told.stages))
    assert told.memory_gb >= max(stage.memory_gb for stage in told.stages)
    assert forecast(params, rows(7000), replace(speed, cores=1)).training_minutes == pytest.approx(sum(trained))
    assert forecast(params, rows(7000), replace(speed, cores=6)).training_minutes == pytest.approx(max(trained))


def test_a_slower_machine_takes_longer_by_its_factor(params, speed):
    """But for DVC itself and the members, which are timed directly."""
    fast, slow = (by_stage(forecast(params, rows(7000), replace(speed, general=g))) for g in (1.0, 3.0))
    for name in ("curate", "propose", "report"):
        assert slow[name].minutes * 60 - DVC_S == pytest.approx(3 * (fast[name].minutes * 60 - DVC_S))


@pytest.mark.parametrize(
    ("durations", "workers", "expected"),
    [([3, 3, 2, 2, 2], 2, 7), ([5], 4, 5), ([], 2, 0), ([4, 3, 2, 1], 1, 10), ([4, 3, 2, 1], 2, 5)],
)
def test_the_longest_is_trained_first(durations, workers, expected):
    assert makespan(durations, workers) == expected


def test_a_live_service_is_as_slow_as_its_rate_limit(params, speed, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    put_in("notebook", file, ROOT / "profiles")
    live = load_params(file)
    asked = rows_of_databases(live)
    assert asked["oqmd"] == (80_000, "assumed")
    told = by_stage(forecast(live, asked, speed))["acquire@oqmd"]
    assert told.minutes * 60 == pytest.approx(2 * 80_000 / 100 + DVC_S)  # labels and cells, a request each second


def test_crystals_of_a_live_service_train_as_long_as_their_edges(params, speed):
    live = changed(params, lambda tree: [block.update(origin="api") for block in tree["databases"].values()])
    few, many = (by_stage(forecast(each, rows(7000), speed))["train@cogn"] for each in (params, live))
    assert few.rows == many.rows
    seconds = params.members["cogn"].training.epochs * 0.8 * 8400 * (LIVE_EDGES - 1) * 1e-3 * STEPS_TO_TRAINING
    assert (many.minutes - few.minutes) * 60 == pytest.approx(seconds)


def test_rows_are_counted_in_the_sample(params, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert rows_of_databases(params) == {
        "materials_project": (6317, "recorded"),
        "aflow": (400, "recorded"),
        "oqmd": (400, "recorded"),
    }


def test_every_member_is_timed_here(params, monkeypatch):
    monkeypatch.chdir(ROOT)
    few = changed(params, lambda tree: tree.update(members={"composition": tree["members"]["composition"]}))
    found = measure_speed(few, cores=2)
    assert found is not None
    surrogates = {
        f"pretrained_{folder.name}" for folder in (ROOT / "data/sample/pretrained").iterdir() if folder.is_dir()
    }
    assert set(found.training) == {"composition"}
    assert set(found.prediction) == {"composition"} | surrogates
    assert min(found.general, *found.training.values(), *found.prediction.values()) > 0
    lines = list(forecast_lines(forecast(few, rows_of_databases(few), found)))
    assert any(line.startswith("train@composition") and line.endswith("measured here") for line in lines)
    assert sum(line.startswith("together") for line in lines) == 1


def test_without_the_sample_there_is_no_forecast(params, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert measure_speed(params, cores=2) is None
