"""One module a model family: its networks built from a file's tensors, and its text encoders."""
