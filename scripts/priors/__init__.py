"""What `train_prior` learns from and is judged by."""
