"""What `evaluate_fit` writes, and its search for weights."""
