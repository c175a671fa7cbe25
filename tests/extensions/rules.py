"""A part of the extension in `bank`: what it imports belongs to it."""

from __future__ import annotations

import datetime
import os
import pathlib
import random
import socket
import subprocess
import threading
import time
import uuid
from datetime import date
from time import time as now

LOWEST = 0

WAYS = {
    "time": lambda: getattr(time, "time")() + 1,  # noqa: B009
    "now": lambda: now() + 1,
    "random": lambda: getattr(random, "randint")(1, 6),  # noqa: B009
    "urandom": lambda: getattr(os, "urandom")(4),  # noqa: B009
    "uuid": lambda: str(getattr(uuid, "uuid4")()),  # noqa: B009
    "datetime": lambda: str(getattr(datetime.datetime, "now")()),  # noqa: B009
    "date": lambda: str(getattr(date, "today")()),  # noqa: B009
    "open": lambda: str(open("/etc/hostname")),  # noqa: SIM115
    "hash": lambda: hash("text") + 1,
    "socket": lambda: str(getattr(socket, "socket")()),  # noqa: B009
    "thread": lambda: getattr(threading, "Thread")(target=print).start(),  # noqa: B009
    "process": lambda: getattr(subprocess, "run")(["true"], check=True),  # noqa: B009
    "allowed": lambda: (
        str(datetime.datetime(2020, 1, 1)) + str(uuid.UUID(int=1))
        + os.path.normpath(os.path.join("a", str(pathlib.PurePosixPath("b"))))
    ),
}
