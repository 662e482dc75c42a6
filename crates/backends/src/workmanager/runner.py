"""Runs one worker: loads its code, and calls `Process(event)` for each event that the host sends.

The host is at the other end of the Unix socket that is this process's standard input. Frames are 4 octets of length,
big endian, and JSON: `load`, `process` and `shutdown` come, `ready`, `result` and `error` go. What the worker prints
goes to the host as its log. The process ends with the host: when the socket ends, or by PR_SET_PDEATHSIG.
"""

import asyncio
import ctypes
import inspect
import json
import linecache
import os
import queue
import resource
import signal
import socket
import struct
import sys
import threading
import traceback

FILE = "<worker>"


class Host:
    """The host's end of the conversation."""

    def __init__(self):
        self._socket = socket.socket(fileno=os.dup(0))
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self.frames = queue.SimpleQueue()
        threading.Thread(target=self._read, name="host", daemon=True).start()

    def send(self, **frame):
        data = json.dumps(frame, ensure_ascii=False, allow_nan=False).encode()
        self._socket.sendall(struct.pack(">I", len(data)) + data)

    def _read(self):
        stream = self._socket.makefile("rb")
        while len(header := stream.read(4)) == 4:
            data = stream.read(struct.unpack(">I", header)[0])
            self.frames.put(json.loads(data))
        # The host is gone, and nobody waits for what is still running.
        os.killpg(0, signal.SIGKILL)


def apply_limits(limits):
    for name, key in [("RLIMIT_AS", "memory_bytes"), ("RLIMIT_NOFILE", "open_files"), ("RLIMIT_FSIZE", "file_bytes")]:
        resource.setrlimit(getattr(resource, name), (limits[key], limits[key]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def allow_cpu_seconds(seconds):
    """Sets the processor time at which this process is killed, counted from now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def load(code):
    """Runs the worker's module and returns its `Process`."""
    linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
    module = type(sys)("worker")
    module.__file__ = FILE
    sys.modules["worker"] = module
    exec(compile(code, FILE, "exec"), module.__dict__)
    process = getattr(module, "Process", None)
    if not callable(process):
        raise TypeError("the worker defines no function Process(event)")
    return process


def run(process, event):
    result = process(event)
    if inspect.isawaitable(result):

        async def wait():
            return await result

        result = asyncio.run(wait())
    if result is not None and not isinstance(result, dict):
        raise TypeError(f"Process returned {type(result).__name__}, expected a dict or None")
    return result


def report(host, error):
    traceback.print_exception(type(error), error, error.__traceback__)
    host.send(kind="error", type=type(error).__name__, message=str(error))


def main():
    # What the host's own parent left open is nobody's business here.
    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    sys.stdout.reconfigure(line_buffering=True)
    host = Host()
    first = host.frames.get()
    apply_limits(first["limits"])
    allow_cpu_seconds(first["limits"]["cpu_seconds"])
    try:
        process = load(first["code"])
    except (Exception, SystemExit) as error:
        report(host, error)
        return
    host.send(kind="ready")
    while (frame := host.frames.get())["kind"] != "shutdown":
        allow_cpu_seconds(first["limits"]["cpu_seconds"])
        try:
            host.send(kind="result", event=run(process, frame["event"]))
        except Exception as error:
            report(host, error)


main()
