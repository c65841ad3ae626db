#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows a Linux guest that uses a disk and entropy of our daemons.

The guest's console is shown as it comes; at the end the disk's image is read
without daemon and guest, and compared with what the guest says it wrote.
Exit status: 0 it is the same, 1 it is not, 77 it cannot be run here.
"""

import hashlib
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import harness
import machine
from oracle import SECTOR, Disk, FileSystem

MIB = 1024 * 1024 // SECTOR
CANNOT_RUN = 77


def say(text):
    print(f'\n== {text}', file=sys.stderr, flush=True)


def show_command(process):
    words = [shlex.quote(str(word)) for word in process.child.args]
    print('  ' + ' '.join(words), file=sys.stderr, flush=True)


def check_image(disk, told):
    """Whether the file in the image is what the guest said it wrote."""
    tool = FileSystem.missing_tool()
    if tool:
        say(f'The image is not looked into: {tool} is not installed')
        return True
    data = FileSystem(disk).read('random') or b''
    found = hashlib.sha256(data).hexdigest()
    say(f'The file in {disk.path}, read without daemon and guest: '
        f'{len(data)} bytes')
    print(f'  sha256 {found}\n  told   {told}', file=sys.stderr)
    return found == told


def demo(options, work):
    machine.check_qemu(options.machine)
    disk = Disk(work, 'disk', 64 * MIB, 2)
    disks = harness.disk_daemon(options, work, disk)
    entropy = harness.own_daemon(options, work, 'rng', 'rng', [])
    devices = [('vhost-user-blk', disks, {'num-queues': disk.queues}),
               ('vhost-user-rng', entropy, {})]
    say('Making the guest')
    machine.make_guest(options)
    with harness.started([disks, entropy]):
        say('A disk and entropy are served')
        show_command(disks.process)
        show_command(entropy.process)
        with machine.booted(options, work, 'demo', devices,
                            environment=[f'vua={disk.sectors}']) as guest:
            say('A Linux guest uses them (QEMU without KVM takes a while)')
            show_command(guest.process)
            told = guest.wait_fact('demo')
            status = guest.wait_end()
        statuses = [disks.stop(), entropy.stop()]
    return check_image(disk, told) and status == 0 and statuses == [0, 0]


def main():
    options = machine.parse_options(__doc__)
    options.verbose = True
    work = Path(tempfile.mkdtemp(prefix='guest-demo-'))
    try:
        good = demo(options, work)
    except harness.Skip as reason:
        say(f'This cannot be run here: {reason}')
        return CANNOT_RUN
    except harness.Failure as reason:
        say(f'Failed: {reason}')
        good = False
    finally:
        if options.keep:
            say(f'Kept: {work}')
        else:
            shutil.rmtree(work, ignore_errors=True)
    say('It works' if good else 'It does not work')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
