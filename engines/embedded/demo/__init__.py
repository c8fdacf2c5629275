"""The demonstration model: small enough for the repository, trained by `train`. See docs/demo-model.md."""
