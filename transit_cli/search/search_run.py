"""`transit search`: from a folder of light curves to a catalog of signals.

Stars are read and detrended by worker processes and searched in blocks on the device, while the next block is read. The
result of each block is a file in a work folder beside the catalog, written atomically, so that a run that was stopped
resumes with the blocks that are left; the catalog is put together from those files. At any moment a few blocks of stars
are in memory.

Other commands call `search(SearchSettings(...))`, which writes the catalog of `signal_catalog.COLUMNS` to `out` and
returns at once where that is complete. The function and the names of settings and columns do not change within a major
version.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from transit_cli.data.lightcurves.file_index import FileIndex
from transit_cli.search import output, sharded_search
from transit_cli.search.blocks import Machine, search_blocks
from transit_cli.search.source import star_tasks
from transit_cli.utils.files import locked
from transit_cli.utils.packages import check_installed

if TYPE_CHECKING:
    from transit_cli.results import Result
    from transit_cli.search.settings import SearchSettings


def search(settings: SearchSettings) -> Result:
    """Write the catalog that the settings ask for, or report that it is complete already.

    Returns:
        Totals, the strongest signals, and in `warnings` how many stars could not be searched; they are listed with
        the reason in OUT-unsearched.csv.

    Raises:
        TransitError: there are no light curves, OUT is of other ones (without `overwrite`), or the device is absent.
        KeyboardInterrupt: the run was stopped; the same settings resume it.
    """
    check_installed("astropy", "data", "reading FITS light curves")
    if settings.shard or settings.shards:
        return sharded_search.search(settings)
    index = FileIndex.of(settings.light_curves, skip=[settings.out])
    tasks = star_tasks(index, settings)
    digest = output.digest_of(tasks, settings)
    work = output.work_folder(settings.out)
    with locked(work):
        if settings.out.exists() and not output.replaceable(settings, digest):
            shutil.rmtree(work, ignore_errors=True)  # of a run that ended between the catalog and this
            return output.result(settings, (output.COMPLETE,))
        output.refuse_shards(work)
        machine = Machine.open(settings)
        sizes = output.open_work(work, digest, tasks, machine)
        done = search_blocks(tasks, sizes, settings, machine, work)
        output.assemble(settings.out, done, digest)
        shutil.rmtree(work)
    return output.result(settings)
