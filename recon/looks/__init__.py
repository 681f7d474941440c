"""What heads look like: skins as an albedo model, hair, brows and lashes as cards, people."""
