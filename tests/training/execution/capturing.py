"""A CPU that captures as CUDA does: recording runs no kernel for good, and a replay only touches recorded addresses."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from transit_cli.device.cpu import CpuDevice


class Recorder(TorchDispatchMode):
    """Keeps every operator with the very tensors that it read and gave."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.before = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("a value was read while capturing")
        if function._schema.is_mutable:
            for tensor in flat([*args, *(kwargs or {}).values()]):
                self.before.setdefault(id(tensor), (tensor, tensor.detach().clone()))
        result = function(*args, **(kwargs or {}))
        self.calls.append((function, args, kwargs or {}, result))
        return result


class Lane:
    """The state of the one generator that there is."""

    def __init__(self):
        self.own = torch.get_rng_state()

    def open(self):
        pass

    def resume(self):
        self.others = torch.get_rng_state()
        torch.set_rng_state(self.own)

    def pause(self):
        self.own = torch.get_rng_state()
        torch.set_rng_state(self.others)


class CapturingCpu(CpuDevice):
    """Records operators below autograd; a replay runs them again and writes into the tensors of the recording."""

    can_capture = True

    def __init__(self):
        super().__init__()
        self.captures = self.replays = 0
        self.replaying = False

    @contextmanager
    def side_stream(self):
        yield

    def lane(self):
        return Lane()

    def pool(self):
        return object()

    def concurrently(self, works):
        return [work() for work in works]

    def capture(self, work, pool):
        self.captures += 1
        recorder, random = Recorder(), torch.get_rng_state()
        with recorder:
            result = work()
        torch.set_rng_state(random)
        with torch.no_grad():
            for tensor, value in recorder.before.values():
                tensor.copy_(value)
        return result, lambda: self._replay(recorder.calls)

    def _replay(self, calls):
        self.replays += 1
        self.replaying = True
        with torch.no_grad():
            for function, args, kwargs, kept in calls:
                found = function(*args, **kwargs)
                for old, new in zip(flat(kept), flat(found), strict=True):
                    if old is not new and old.data_ptr() != new.data_ptr():
                        old.copy_(new)
        self.replaying = False


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value]
    return [item for part in value for item in flat(part)] if isinstance(value, tuple | list) else []
