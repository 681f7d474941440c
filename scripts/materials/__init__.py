"""What `learn_material` asks a prior, and what it shows of the answer."""
