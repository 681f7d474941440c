"""What `benchmark` measures, and the peers it measures against."""
