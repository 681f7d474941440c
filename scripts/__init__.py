"""absl commands, one verb each: flags, files, jit, progress and logging; no maths."""

import signal
import sys

# `python -m scripts.NAME` loads a command, for seconds, with nothing to keep: Ctrl-C just ends it.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
