"""Encoders, one a file, and the shared head that turns them into distributions."""

from typing import Final

WEIGHTS_FILE: Final = "weights.safetensors"  # of a saved member; here, so that reading it does not import torch
