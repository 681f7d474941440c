"""From a photo to a texture: what is seen, trusted, mirrored and filled."""
