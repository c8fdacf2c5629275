"""``python -m comfy_atelier``: the command line, where the script ``atelier`` is not on the PATH."""

from comfy_atelier.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
