"""The embedded engine: ComfyUI's prompts without ComfyUI, in a process of its own.

`engine` is the caller's side and never imports torch; `worker` is the process; `executor` runs a prompt there;
`nodes_*` hold the node classes by group.
"""
