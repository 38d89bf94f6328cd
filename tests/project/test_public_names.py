"""The public names: every one that `matscout` promises is there, and the table opens."""

import os
import subprocess
import sys

import pytest

import matscout
from matscout.errors import InputError


@pytest.mark.parametrize("name", [name for name in dir(matscout) if not name.startswith("_")])
def test_every_public_name_can_be_imported(name):
    assert getattr(matscout, name).__name__ == name


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(AttributeError, match="load_materials_database"):
        _ = matscout.load_database


def test_an_absent_table_says_what_to_run(tmp_path):
    with pytest.raises(InputError, match="dvc repro curate"):
        matscout.load_materials_database(tmp_path)


@pytest.mark.parametrize(("own", "found"), [(None, "passive False"), ("active", "active False")])
def test_threads_of_torch_wait_asleep_unless_the_user_says_otherwise(own, found):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {} if own is None else {"OMP_WAIT_POLICY": own}
    code = "import os, sys, matscout; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found
