"""Networks that judge pictures as people or classifiers would."""
