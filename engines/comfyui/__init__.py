"""Run prompts on a real ComfyUI: a remote server (`client`), or a process of our own (`process`)."""
