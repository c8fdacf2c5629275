"""Sampling, conditioning and what travels over MODEL, CLIP, VAE, CONDITIONING and LATENT wires."""
