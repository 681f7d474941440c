"""One photo becomes a head: the morphable model, its fit to landmarks, and its texture."""
