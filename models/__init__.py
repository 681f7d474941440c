"""Flax networks and what trains them."""
