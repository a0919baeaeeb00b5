"""`transit` in processes that are forked from one that has imported torch: most of a short command's time is its imports."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.torture.forked import PRELOADED


def run(*arguments, env=None, cwd=None, timeout=300):
    """Run `transit` to its end.

    Variables in `env` that matter when Python, NumPy or torch start have no effect: use a process of its own for those.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", *PRELOADED])
    words = list(map(str, arguments))
    environment = os.environ | {"TERM": "dumb"} | (env or {})
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("output", "errors")]
        process = context.Process(target=_child, args=(words, str(cwd or Path.cwd()), environment, files))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        output, errors = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess(words, process.exitcode, output, errors)


def _child(words, folder, environment, files):
    from transit_cli import __main__

    for handle, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), handle)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["transit", *words]
    __main__.main()
