# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs processes for the guest tests, and says what happened.

Owns: processes and their certain end, daemons, and the TAP that is printed.
Does not own the guest (machine.py), what is tested, nor the disks' contents
(oracle.py).

Whatever happens to the script, no process and no socket is left: children
die with it (PR_SET_PDEATHSIG), and sockets live in a folder that goes.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent

# Generous: a loaded machine takes several times what we measure.
START_SECONDS = 20

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Skip(Exception):
    """The test cannot run here; the text says why."""


class Failure(Exception):
    """The test cannot go on; the text says why."""


class Tap:
    """Prints results as they come, and the plan at the end."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.count = 0
        self.failed = 0

    def ok(self, condition, name, detail=''):
        """One result; the name goes on where the prefix ends."""
        self.count += 1
        if not condition:
            self.failed += 1
        word = 'ok' if condition else 'not ok'
        print(f'{word} {self.count} {self.prefix}/{name}', flush=True)
        if not condition and detail:
            self.note(detail)

    def equal(self, got, expected, name):
        self.ok(got == expected, name,
                f'got {got!r}, expected {expected!r}')

    def skip(self, name, why):
        self.count += 1
        print(f'ok {self.count} {self.prefix}/{name} # SKIP {why}',
              flush=True)

    def result(self, name, value):
        """A figure worth keeping."""
        self.note(f'result: {self.prefix[1:]}/{name}: {value}')

    @staticmethod
    def note(text):
        for line in str(text).splitlines():
            print(f'# {line}', flush=True)


def run_tests(prefix, body, options):
    """Runs body(tap, work, options) with a work folder; ends the script.

    The prefix of the tests' names may hold options, as in "/x/{machine}".
    The folder, which holds all logs, is kept when a test fails.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    tap = Tap(prefix.format(**vars(options)))
    work = Path(tempfile.mkdtemp(prefix='guest-test-'))
    try:
        body(tap, work, options)
    except Skip as reason:
        tap.skip('runs-here', str(reason))
    except Failure as reason:
        tap.ok(False, 'runs-to-its-end', str(reason))
    finally:
        if options.keep or tap.failed > 0:
            tap.note(f'logs and disks are kept in {work}')
        else:
            shutil.rmtree(work, ignore_errors=True)
    print(f'1..{tap.count}', flush=True)
    sys.exit(1 if tap.failed else 0)


def can_punch_holes(folder):
    """Whether the host's file system there gives space back on demand."""
    keep_size_and_punch = 3
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.truncate(65536)
        return LIBC.fallocate(probe.fileno(), keep_size_and_punch,
                              ctypes.c_long(0), ctypes.c_long(65536)) == 0


# ---- processes -----------------------------------------------------------

def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child with a name, a log and a certain end."""

    def __init__(self, name, command, log, **popen):
        self.name = name
        self.log = log
        popen.setdefault('stdin', subprocess.DEVNULL)
        with log.open('ab') as err:
            err.write(f'$ {" ".join(map(str, command))}\n'.encode())
            err.flush()
            popen.setdefault('stdout', err)
            self.child = subprocess.Popen(
                [str(word) for word in command], stderr=err,
                preexec_fn=die_with_parent, **popen)

    def running(self):
        return self.child.poll() is None

    def wait(self, seconds):
        """The exit status; Failure when there is none in time."""
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f'{self.name} still runs after '
                          f'{seconds} s') from None

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        """Asks for an end with SIGTERM; returns the exit status."""
        self.child.terminate()
        try:
            return self.wait(START_SECONDS)
        finally:
            self.kill()

    def reason(self):
        """The last words of its log."""
        lines = self.log.read_text(errors='replace').strip().splitlines()
        return ' | '.join(lines[-4:])


def socket_listens(path):
    """Whether the kernel knows a listening Unix socket of that path."""
    listening = '00010000'
    with open('/proc/net/unix', encoding='utf-8') as table:
        for line in table:
            fields = line.split()
            if fields[-1] == str(path) and fields[3] == listening:
                return True
    return False


class Daemon:
    """A back end that can be killed and started again on its socket."""

    def __init__(self, name, command, socket, log):
        self.name = name
        self.command = command
        self.socket = socket
        self.log = log
        self.process = None
        self.ended_by_us = False

    def start(self):
        """Starts it and returns when it listens."""
        self.ended_by_us = False
        self.process = Process(self.name, self.command, self.log)
        deadline = time.monotonic() + START_SECONDS
        ended = os.pidfd_open(self.process.child.pid)
        try:
            while not socket_listens(self.socket):
                # The only event to wait for is an early end; the kernel
                # does not tell when a socket begins to listen.
                if select.select([ended], [], [], 0.02)[0]:
                    raise Failure(f'{self.name} ended before listening: '
                                  f'{self.process.reason()}')
                if time.monotonic() > deadline:
                    raise Failure(f'{self.name} does not listen on '
                                  f'{self.socket}')
        finally:
            os.close(ended)

    def kill(self):
        self.ended_by_us = True
        self.process.kill()

    def stop(self):
        self.ended_by_us = True
        return self.process.stop()

    def running(self):
        return self.process is not None and self.process.running()

    def check(self):
        """Raises Failure when it ended and should not have."""
        if not self.ended_by_us and not self.running():
            raise Failure(f'{self.name} ended: {self.process.reason()}')


def own_daemon(options, work, kind, name, arguments):
    """vhost-user-blk or vhost-user-rng of this tree."""
    binary = options.build_dir / 'contrib' / f'vhost-user-{kind}'
    if not binary.exists():
        raise Skip(f'{binary} is not built')
    socket = work / f'{name}.sock'
    command = [binary, '--socket-path', socket, *arguments]
    return Daemon(name, command, socket, work / f'{name}.log')


def disk_daemon(options, work, disk):
    """Who serves a disk: our daemon, or qemu-storage-daemon."""
    if options.daemon == 'own':
        arguments = ['--blk-file', disk.path, '--num-queues', disk.queues,
                     '--serial', disk.serial]
        if disk.read_only:
            arguments.append('--read-only')
        return own_daemon(options, work, 'blk', disk.name, arguments)
    if not shutil.which('qemu-storage-daemon'):
        raise Skip('qemu-storage-daemon is not installed')
    socket = work / f'{disk.name}.sock'
    state = 'on' if disk.read_only else 'off'
    writable = 'off' if disk.read_only else 'on'
    command = [
        'qemu-storage-daemon', '--blockdev',
        f'driver=file,node-name=disk,filename={disk.path},discard=unmap,'
        f'read-only={state}', '--export',
        f'type=vhost-user-blk,id=export,node-name=disk,writable={writable},'
        f'num-queues={disk.queues},addr.type=unix,addr.path={socket}',
    ]
    return Daemon(disk.name, command, socket, work / f'{disk.name}.log')


@contextlib.contextmanager
def started(daemons):
    """Starts the daemons; at the end none of them runs any more."""
    try:
        for daemon in daemons:
            daemon.start()
        yield
    finally:
        for daemon in daemons:
            if daemon.running():
                daemon.kill()
