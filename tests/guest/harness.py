# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs daemons and a Linux guest under QEMU, and says what happened.

Owns: processes and their end, deadlines, the guest's console, logs, and the
TAP that is printed.  Does not own what is tested, nor the disks' contents
(oracle.py).

Whatever happens to the script, no process and no socket is left: children
die with it (PR_SET_PDEATHSIG), and sockets live in a folder that goes.
"""

import argparse
import contextlib
import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent

QEMU = 'qemu-system-x86_64'
MKGUEST_NO_PACKAGES = 3

# Generous: a loaded machine without KVM takes several times what we measure.
START_SECONDS = 20
GUEST_SECONDS = 120
# So often a silent guest's daemons are looked at.
CHECK_SECONDS = 1

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


def parse_options(description, **more):
    """The options that all guest tests share, and more: name=(default, help).
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument('--build-dir', type=Path, default=TOP / 'build',
                        metavar='DIR', help='where the daemons are, and '
                        'where guests are made (build)')
    parser.add_argument('--daemon', choices=('own', 'qsd'), default='own',
                        help='who serves the disks: ours, or '
                        'qemu-storage-daemon as the control (own)')
    parser.add_argument('--machine', choices=MACHINES, default='q35',
                        help='guest machine (q35)')
    parser.add_argument('--kernel', choices=('6.1', '6.12'), default='6.12',
                        help='guest kernel (6.12)')
    parser.add_argument('--accel', default='tcg',
                        help='accelerator of QEMU (tcg)')
    parser.add_argument('--limit', type=int, default=240, metavar='SECONDS',
                        help='how long one guest may take (240)')
    parser.add_argument('--keep', action='store_true',
                        help='keep logs and disks also on success')
    parser.add_argument('--verbose', action='store_true',
                        help='show the console of the guest')
    for name, (default, text) in more.items():
        parser.add_argument(f'--{name}', type=type(default), default=default,
                            help=f'{text} ({default})')
    return parser.parse_args()


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


def host_khz():
    """About how fast the host's time stamp counter counts."""
    with open('/proc/cpuinfo', encoding='utf-8') as info:
        match = re.search(r'^cpu MHz\s*: ([0-9.]+)$', info.read(), re.M)
    return int(float(match.group(1)) * 1000) if match else 2000000


# ---- the guest -----------------------------------------------------------

# Machine: QEMU's arguments, words for the kernel, the suffix of its devices'
# names, its firmware.
#
# Behind an IOMMU Linux must flush at each unmapping (strict): of the deferred
# flushes, which are for a whole domain, QEMU 7.2 tells no back end.
#
# A microvm has no clock to measure the TSC with but the PIT, which fails when
# the host is busy and leaves Linux without any timer: so the frequency is
# given.  Its ACPI reset does not always end a Linux that asks for it (it goes
# on and runs wild); a triple fault does.
MACHINES = {
    'q35': {
        'qemu': ['-machine', 'q35,memory-backend=mem'],
        'kernel': [],
        'suffix': '-pci',
        'firmware': None,
    },
    'q35-iommu': {
        'qemu': ['-machine', 'q35,memory-backend=mem,kernel-irqchip=split',
                 '-device', 'intel-iommu,intremap=off,device-iotlb=on',
                 '-global', 'vhost-user-blk-pci.disable-legacy=on'],
        'kernel': ['intel_iommu=on', 'iommu.strict=1'],
        'suffix': '-pci,iommu_platform=on,ats=on',
        'firmware': None,
    },
    'microvm': {
        'qemu': ['-machine', 'microvm,acpi=on,memory-backend=mem',
                 '-bios', 'qboot.rom',
                 '-global', 'virtio-mmio.force-legacy=false'],
        'kernel': [f'tsc_early_khz={host_khz()}', 'reboot=t'],
        'suffix': '',
        'firmware': 'qboot.rom',
    },
}


def check_qemu(machine):
    """Raises Skip when QEMU or the firmware of the machine is missing."""
    if not shutil.which(QEMU):
        raise Skip(f'{QEMU} is not installed')
    firmware = MACHINES[machine]['firmware']
    if firmware is None:
        return
    shown = subprocess.run([QEMU, '-L', 'help'], capture_output=True,
                           text=True, check=True)
    folders = shown.stdout.split()
    if not any((Path(folder) / firmware).exists() for folder in folders):
        raise Skip(f'the firmware {firmware} is in none of {folders}')


def guest_cache(options):
    """Where packages of guests are kept."""
    shared = os.environ.get('VHU_GUEST_CACHE')
    return Path(shared) if shared else guest_folder(options) / 'cache'


def guest_folder(options):
    return options.build_dir.resolve() / 'guest'


def make_guest(options):
    """The folder of the guest's kernel and initramfs, made if needed."""
    done = subprocess.run(
        [TOP / 'scripts' / 'mkguest', '--kernel', options.kernel,
         '--output', guest_folder(options), '--cache', guest_cache(options)],
        capture_output=True, text=True, check=False)
    if done.returncode == MKGUEST_NO_PACKAGES:
        raise Skip(done.stderr.strip())
    if done.returncode != 0:
        raise Failure(done.stderr.strip())
    return guest_folder(options) / options.kernel


class Guest:
    """QEMU with a guest that reports facts on its console."""

    def __init__(self, options, work, test, devices, environment=()):
        """devices: (name, Daemon, properties); environment: 'vuNAME=…'."""
        self.verbose = options.verbose
        self.daemons = [daemon for _, daemon, _ in devices]
        self.ends_by = time.monotonic() + options.limit
        self.text = b''
        self.facts = []
        self.taken = 0
        self.console = work / 'console.log'
        folder = make_guest(options)
        machine = MACHINES[options.machine]
        # On a busy host the check of the timer misses its ticks, and panics.
        words = ['console=ttyS0', 'quiet', 'printk.devkmsg=on',
                 'no_timer_check', *machine['kernel'], f'vutest={test}', *environment]
        command = [
            QEMU, '-accel', options.accel, *machine['qemu'], '-cpu', 'max',
            '-smp', '2', '-m', '256', '-object',
            'memory-backend-memfd,id=mem,size=256M,share=on',
            '-nodefaults', '-no-user-config', '-display', 'none',
            '-serial', 'stdio', '-kernel', folder / 'vmlinuz',
            '-initrd', folder / 'initramfs', '-append', ' '.join(words),
        ]
        for number, (name, daemon, properties) in enumerate(devices):
            reconnect = ',reconnect=1' if properties.pop('reconnect',
                                                         False) else ''
            rest = ''.join(f',{key}={value}'
                           for key, value in properties.items())
            command += [
                '-chardev',
                f'socket,id=char{number},path={daemon.socket}{reconnect}',
                '-device',
                f'{name}{machine["suffix"]},chardev=char{number}{rest}',
            ]
        self.process = Process('QEMU', command, work / 'qemu.log',
                               stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE)

    def _wait_console(self, pipe, deadline):
        """Waits for more of the console; Failure when that is in vain."""
        while True:
            if time.monotonic() > min(deadline, self.ends_by):
                raise Failure('what is expected of the guest does not come; '
                              f'its last words: {self.last_words()}')
            if select.select([pipe], [], [], CHECK_SECONDS)[0]:
                return
            for daemon in self.daemons:
                daemon.check()

    def _read(self, deadline):
        """Reads more of the console; False at its end."""
        pipe = self.process.child.stdout.fileno()
        self._wait_console(pipe, deadline)
        data = os.read(pipe, 65536)
        with self.console.open('ab') as log:
            log.write(data)
        if self.verbose:
            sys.stderr.write(data.decode(errors='replace'))
            sys.stderr.flush()
        self.text += data
        *lines, self.text = self.text.split(b'\n')
        for line in lines:
            self._take_line(line.decode(errors='replace').strip('\r'))
        return bool(data)

    def _take_line(self, line):
        if 'Kernel panic' in line:
            raise Failure(f'the guest: {line}')
        match = re.search(r'@vu (\S+) ?(.*)$', line)
        if match:
            self.facts.append((match.group(1), match.group(2)))

    def last_words(self):
        if not self.console.exists():
            return 'none'
        lines = self.console.read_text(errors='replace').splitlines()
        return ' | '.join(lines[-4:])

    def _next_fact(self, deadline):
        while self.taken == len(self.facts):
            if not self._read(deadline):
                return None
        self.taken += 1
        return self.facts[self.taken - 1]

    def next_fact(self):
        """The next fact not yet taken, as (key, value); None at the end."""
        return self._next_fact(time.monotonic() + GUEST_SECONDS)

    def wait_fact(self, key):
        """Takes facts up to one of that key; returns its value."""
        deadline = time.monotonic() + GUEST_SECONDS
        while True:
            fact = self._next_fact(deadline)
            if fact is None:
                raise Failure(f'QEMU ended before the fact "{key}": '
                              f'{self.process.reason()}; the last words of '
                              f'the guest: {self.last_words()}')
            if fact[0] == key:
                return fact[1]

    def values(self, key):
        """All values that the key had so far."""
        return [value for name, value in self.facts if name == key]

    def say(self, line):
        """Types a line on the console."""
        self.process.child.stdin.write(f'{line}\n'.encode())
        self.process.child.stdin.flush()

    def wait_end(self):
        """Waits until the guest switched itself off; QEMU's status."""
        while self.next_fact() is not None:
            pass
        return self.process.wait(START_SECONDS)

    def kill(self):
        self.process.kill()
        self.process.child.stdin.close()
        self.process.child.stdout.close()


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


@contextlib.contextmanager
def booted(*arguments, **named):
    """A guest that is gone at the end."""
    guest = Guest(*arguments, **named)
    try:
        yield guest
    finally:
        guest.kill()
