"""What heads look like: skins as an albedo model, hair as cards, eyes, clothes, random people."""
