"""Photo sets of every maker, read into one description: behind `capture_io`."""
