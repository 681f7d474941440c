"""Flax networks and what trains them (empty for now)."""
