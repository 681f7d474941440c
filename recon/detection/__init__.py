"""From a photo to the 68 points of its faces, and a second look at what was found."""
