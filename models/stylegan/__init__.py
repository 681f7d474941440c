"""A generator of pictures by StyleGAN2, and its discriminator."""
