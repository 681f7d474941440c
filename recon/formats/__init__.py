"""Files of every maker's face model."""
