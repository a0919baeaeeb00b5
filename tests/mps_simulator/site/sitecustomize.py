"""Make "mps" a device of every Python process that has this folder on PYTHONPATH and `MPS_SIMULATOR` in its environment.

Python imports this module when it starts. Nothing is loaded before the program itself imports torch: the device appears
at the end of that import, before anything can ask for it.
"""

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder


class _AfterTorch(MetaPathFinder):
    """Finds torch as ever, and starts the device when it has been imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_start(module):
                execute(module)
                import simulated_mps

                simulated_mps.start()

            spec.loader.exec_module = execute_and_start
        return spec


if "MPS_SIMULATOR" in os.environ:
    sys.meta_path.insert(0, _AfterTorch())
