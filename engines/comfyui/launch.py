"""Run ComfyUI's ``main.py`` so that it ends when whoever started it does.

Run by ComfyUI's own Python, as a file: standard library only, nothing of this package. Its standard input is a pipe
whose other end the parent holds; the pipe closes when the parent ends, however it ends (``kill -9`` too, on every
system), and then so does this process. Arguments: the folder to clear away then ("-" for none), the path of
``main.py``, and its arguments.
"""

import os
import runpy
import shutil
import sys
import threading
from pathlib import Path


def _end_with_parent(pipe: int, scratch: str) -> None:
    while True:
        try:
            if not os.read(pipe, 1024):
                break
        except OSError:
            break
    if scratch != "-":
        shutil.rmtree(scratch, ignore_errors=True)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        import signal

        os.killpg(0, signal.SIGKILL)  # what nodes have started goes too
    os._exit(1)


def main() -> None:
    scratch, script = sys.argv[1:3]
    # A copy that children do not inherit; what reads standard input finds it empty.
    pipe = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    threading.Thread(target=_end_with_parent, args=(pipe, scratch), name="end-with-parent", daemon=True).start()
    sys.argv = [script, *sys.argv[3:]]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
