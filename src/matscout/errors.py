"""The errors that matscout raises: each names the value, the rule and the remedy."""


class MatscoutError(Exception):
    """Base of every error that a user can fix; the command line prints it without a traceback."""


class ParameterError(MatscoutError):
    """`params.yaml` holds an unknown key, a missing key or a value outside its range."""


class InputError(MatscoutError):
    """A file or a row that was given cannot be used as it is."""


class SourceError(MatscoutError):
    """A database could not be reached, refused the request or answered nonsense."""


class StoreError(MatscoutError):
    """A stored artifact (graphs, weights, checkpoint) is missing, cut off or of another format."""


class TrainingError(MatscoutError):
    """Training cannot continue: no labels, a loss that is not finite, a lock held by another trainer."""


class DivergedError(TrainingError):
    """A loss or a gradient that is not finite or beyond reason: a broken row, or too high a learning rate."""


class WorkerError(MatscoutError):
    """A worker process died: it was killed, or the machine ran out of memory."""
