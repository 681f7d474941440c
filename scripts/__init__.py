"""absl commands, one verb each: flags, files, jit, progress and logging; no maths."""
