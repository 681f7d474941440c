"""The page on which contour paths are drawn."""
