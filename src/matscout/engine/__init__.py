"""Where work runs: this process, this machine's cores, or a Ray cluster. The results are the same everywhere."""

from matscout.engine.process_map import held_for_each as held_for_each
from matscout.engine.process_map import load_for_workers as load_for_workers
from matscout.engine.process_map import parallel_map as parallel_map
from matscout.engine.process_map import parallel_stream as parallel_stream
from matscout.engine.process_setup import n_workers as n_workers
