"""What child processes do in tests; they import it by its name, so it is small."""

import errno
import os
import signal
import time

from nnpipe import processes
from nnpipe.errors import PictureError


def twice(x):
    """Double an item."""
    return 2 * x


def fall_over(x):
    """Do what an item says; one that is no order comes back."""
    match x:
        case str() if x.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, x))
            time.sleep(60)
        case "exit":
            os._exit(7)
        case "refuse":
            raise PictureError("not this one")
        case "bug":
            raise ZeroDivisionError("by zero")
        case "memory":
            return len(b"x" * (processes.MEMORY + 1))
        case float():
            time.sleep(x)
        case ("once", name, file) if not os.path.exists(file):  # noqa: PTH110
            open(file, "w").close()
            number = getattr(signal, name)
            if number != signal.SIGKILL:
                signal.signal(number, signal.SIG_DFL)  # under nohup, SIGHUP is ignored
            os.kill(os.getpid(), number)
            time.sleep(60)
    return x


def stop_between_items(job, on_item):
    """Stand still before any item is begun."""
    os.kill(os.getpid(), signal.SIGSTOP)


def fill_up(name):
    """Fail as a write to a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device", name)


def spin(*anything):
    """Hold the interpreter's lock for a long time, so that no thread of this process runs."""
    for _ in range(100):
        sum(range(10**9))


def end(part):
    """End the process."""
    os._exit(1)
