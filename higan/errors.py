"""The errors a user sees: one sentence that says what is wrong, what was received and what to do."""


class HiganError(Exception):
    """Base of every error that a user can act on; the command line prints it and exits with its code."""

    exit_code = 2

    def __str__(self) -> str:
        # Names out of files may hold line breaks, and what a terminal obeys.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


class MapSetError(HiganError):
    """A map set, or a file meant to become one, is not what it should be."""


class ParameterError(HiganError):
    """Parameters are missing, misnamed or out of the range a generator was trained on."""


class RecipeError(HiganError):
    """A training recipe cannot be used."""


class CheckpointError(HiganError):
    """A checkpoint folder is damaged, too new, or does not fit what it is asked to do."""


class OutputError(HiganError):
    """An output exists already or cannot be written."""


class MissingDependencyError(HiganError):
    """An optional package or a library it needs is not installed."""


class ClusterError(HiganError):
    """A cluster cannot be reached, or has no workers."""


class TrainingError(HiganError):
    """Training cannot start or go on."""


class StoppedError(HiganError):
    """Work was stopped from outside, and goes on where it was when it is started again."""

    exit_code = 75  # EX_TEMPFAIL: for schedulers to put the job back in the queue
