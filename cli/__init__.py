"""The `atelier` command, one file per command group; every other room is imported when a command needs it."""
