"""Video-diffusion priors: networks that know how things move, and what is learnt from them."""
