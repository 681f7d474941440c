"""Gaussians and a material become motion."""
