"""The demonstration model: a small latent diffusion model that this project draws the lessons for, trains and ships.

`scenes` invents scenes and says them in words, `drawing` draws them, `words` is the vocabulary, `networks` builds
the modules from diffusers' and transformers' classes, `train` makes the weights, `classifier` and `evaluate` measure
them, `weights` reads and writes the files. See docs/demo-model.md.
"""
