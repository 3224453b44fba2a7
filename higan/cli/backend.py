"""Import the Keras backend without its start-up chatter."""

from __future__ import annotations

import os
import sys
import tempfile


def import_backend(touch: bool = True) -> None:
    """Import Keras and `touch` a tensor; what TensorFlow prints meanwhile is shown only if that fails.

    Some of it goes to the file descriptor before any log level holds. Processes that are to train together join one
    another before they touch any.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as chatter:
        terminal = os.dup(2)
        os.dup2(chatter.fileno(), 2)
        try:
            import keras

            if touch:
                keras.ops.zeros(1)
        except BaseException:
            os.dup2(terminal, 2)
            chatter.seek(0)
            sys.stderr.write(chatter.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
