# SPDX-License-Identifier: Apache-2.0
"""Cached build steps.

A step is a function from inputs to a directory. Its result lives in
<cache>/lab-<step>-<hash of the inputs> and is never changed once it is there:
it is built under a temporary name and renamed, with a lock held, so that two
test runs at once build it once and never see half of it.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

UNUSED_DAYS = 14
HEARTBEAT_SECONDS = 5


class LabError(Exception):
    """The lab cannot be built or run here; the text says why."""


def cache_dir():
    """Where results live: shared by all checkouts of the project."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.path.join(base, "ember")
    os.makedirs(path, exist_ok=True)
    return path


def say(text):
    """One line of progress; stderr, since stdout carries results."""
    print("# lab: " + text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def heartbeat(label):
    """Says what is going on at once, and again while it lasts."""
    start = time.monotonic()
    done = threading.Event()

    def beat():
        while not done.wait(HEARTBEAT_SECONDS):
            say("%s: %d s" % (label, time.monotonic() - start))

    say(label)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def need(*programs):
    """Names every missing program at once, not one per attempt."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    missing = [p for p in programs if not shutil.which(p, path=path)]
    if missing:
        raise LabError("not installed: " + " ".join(missing))


def command(argv, **kwargs):
    """Runs a program quietly; its last words become the error's text."""
    env = dict(os.environ, LC_ALL="C.UTF-8")
    env["PATH"] = env.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, **kwargs)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip()[-600:]
        raise LabError("%s: exit %d: %s" % (argv[0], done.returncode, last))
    return done.stdout


def digest(*inputs):
    """A short hash of strings, bytes and lists of them."""
    state = hashlib.sha256()
    for item in inputs:
        data = item if isinstance(item, bytes) else repr(item).encode()
        state.update(b"%d:" % len(data) + data)
    return state.hexdigest()[:16]


def file_bytes(*names):
    """The contents of files beside this one: a step's code is its input."""
    here = os.path.dirname(os.path.abspath(__file__))
    data = []
    for name in names:
        with open(os.path.join(here, name), "rb") as source:
            data.append(source.read())
    return b"\0".join(data)


def _forget_unused(name, keep):
    """Drops results of one step that no run has asked for in a while."""
    limit = time.time() - UNUSED_DAYS * 86400
    base = cache_dir()
    for entry in os.listdir(base):
        path = os.path.join(base, entry)
        ours = entry.startswith("lab-%s-" % name) and path != keep
        if ours and os.path.getmtime(path) < limit:
            shutil.rmtree(path, ignore_errors=True)


def step(name, key, build):
    """Returns the directory of a step, building it with build(dir) if need
    be. @key is the hash of all inputs."""
    final = os.path.join(cache_dir(), "lab-%s-%s" % (name, key))
    if not os.path.isdir(final):
        with open(os.path.join(cache_dir(), name + ".lock"), "w") as lock:
            _lock(lock, name)
            if not os.path.isdir(final):
                _build(name, final, build)
        _forget_unused(name, final)
    os.utime(final)
    return final


def _lock(lock, name):
    """Takes the lock of a step, and says so if that takes long."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with heartbeat("another run is building this too: " + name):
            fcntl.flock(lock, fcntl.LOCK_EX)


def _build(name, final, build):
    """Runs a builder in a temporary directory and publishes the result."""
    temp = tempfile.mkdtemp(prefix=".new-%s-" % name, dir=cache_dir())
    try:
        build(temp)
        os.chmod(temp, 0o755)
        os.rename(temp, final)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
