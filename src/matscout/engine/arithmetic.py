"""Arithmetic of a process that computes with floating-point numbers."""


def flush_subnormals() -> None:
    """Let this thread, and those that it starts from now on, take subnormal results as zero.

    Numbers below 1.2e-38 (float32) or 2.2e-308 (float64) are handled in microcode on many processors: a few of them
    make a layer several times as slow. The encoders avoid them at the source; what is left of them, in an
    optimiser's moments, means zero. A new thread inherits the setting and one that already runs does not, so a
    process calls this before it computes. It imports torch: a worker that never does needs no flushing.
    """
    import torch

    torch.set_flush_denormal(True)
