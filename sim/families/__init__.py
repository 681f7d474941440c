"""Random scenes of one kind of motion each: what the small video prior is taught on."""
