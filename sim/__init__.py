"""Gaussians and a material become motion (empty for now)."""
