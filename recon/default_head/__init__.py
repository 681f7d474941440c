"""How the shipped head is built."""
