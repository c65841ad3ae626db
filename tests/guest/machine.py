# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots a Linux guest under QEMU and listens to what it reports.

Owns: the machines, the options of all guest tests, the making of the guest,
its console and the deadlines of what is expected there.  Does not own
processes and daemons (harness.py), nor what the guest does (init).
"""

import argparse
import contextlib
import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

from harness import START_SECONDS, TOP, Failure, Process, Skip

QEMU = 'qemu-system-x86_64'
MKGUEST_NO_PACKAGES = 3

# Generous: a loaded machine without KVM takes several times what we measure.
GUEST_SECONDS = 120
# So often a silent guest's daemons are looked at.
CHECK_SECONDS = 1

def host_khz():
    """About how fast the host's time stamp counter counts."""
    with open('/proc/cpuinfo', encoding='utf-8') as info:
        match = re.search(r'^cpu MHz\s*: ([0-9.]+)$', info.read(), re.M)
    return int(float(match.group(1)) * 1000) if match else 2000000


# Machine: QEMU's arguments, words for the kernel, the suffix of its devices'
# names, its firmware.
#
# Behind an IOMMU Linux must flush at each unmapping (strict): of the deferred
# flushes, which are for a whole domain, QEMU 7.2 tells no back end.
#
# When the host is busy QEMU's timer interrupts are late for the check that
# Linux makes of them, and Linux gives up: so no_timer_check, on all machines.
# A microvm has no clock to measure the TSC with but the PIT, which fails then
# too and leaves Linux without any timer: so the frequency is given.  Its ACPI
# reset does not always end a Linux that asks for it (it goes on and runs
# wild); a triple fault does.
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
        words = ['console=ttyS0', 'quiet', 'printk.devkmsg=on',
                 'no_timer_check',
                 *machine['kernel'], f'vutest={test}', *environment]
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
                status = self.process.wait(START_SECONDS)
                raise Failure(f'QEMU ended with status {status} before the '
                              f'fact "{key}": {self.process.reason()}; the '
                              f'last words of the guest: {self.last_words()}')
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
def booted(*arguments, **named):
    """A guest that is gone at the end."""
    guest = Guest(*arguments, **named)
    try:
        yield guest
    finally:
        guest.kill()
