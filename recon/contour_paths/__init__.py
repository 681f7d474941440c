"""Contour paths: the rule that draws them on any head, drawn ones, their files."""
