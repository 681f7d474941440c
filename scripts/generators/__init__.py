"""Parts of `train_stylegan`: pictures to learn from, judgements, sheets."""
