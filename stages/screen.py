"""Stage `screen`: predictions for every candidate, ranked by the goal."""

from matscout.params import load_params
from matscout.stage import PathOption, run


def main(
    candidates: PathOption,
    members: PathOption,
    ensemble: PathOption,
    materials: PathOption,
    stand_ins: PathOption,
    distilled: PathOption,
    hull: PathOption,
    out: PathOption,
) -> None:
    """Predict with all members, rank by the goal, write the best as CIF."""
    from matscout.discovery.screen.screen import screen  # here: workers import this script again, and need none of it

    screen(
        candidates,
        params=load_params(),
        members=members,
        ensemble=ensemble,
        materials=materials,
        stand_ins=stand_ins,
        distilled=distilled,
        hull=hull,
        destination=out,
    )


if __name__ == "__main__":
    run(main)
