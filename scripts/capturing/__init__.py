"""From a video or photos to a capture: frames, poses, masks."""
