"""Run a prompt and stream events: a real ComfyUI, or this package's own executor. Imports graph and catalogue."""
