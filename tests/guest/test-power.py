#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a guest synced is there after its machine died at once.

The guest syncs one file after the other and says so; QEMU is killed in the
middle, then QEMU together with the daemon.  The daemon that lives on serves
the next machine; the guest's journal is replayed; every file that was
reported as synced must be whole, in the guest and in the image.
"""


import harness
import machine
from oracle import SECTOR, Disk, FileSystem, digest, first_difference, pattern

MIB = 1024 * 1024 // SECTOR
FILE_SECTORS = 24
SYNCED = 20    # files of each boot, at least


def boot(options, work, devices, disk, words):
    return machine.booted(options, work, 'power', devices, environment=[
        f'vu{disk.name}={disk.sectors}', *words])


def check_found(tap, guest, synced, name):
    """The guest sees all that was synced before it booted."""
    guest.wait_fact('found-all')
    found = dict(value.split(' ') for value in guest.values('found'))
    lost = [item for item in synced
            if found.get(item) != digest(pattern(item, 0, FILE_SECTORS))]
    tap.equal(lost, [], name)


def write_until_killed(guest, also=None):
    """Kills QEMU, and perhaps a daemon; returns what was synced."""
    for _ in range(SYNCED):
        guest.wait_fact('synced')
    if also:
        also.kill()
    guest.process.child.kill()
    while guest.next_fact() is not None:
        pass
    return guest.values('synced')


def check_image(tap, disk, synced):
    tool = FileSystem.missing_tool()
    if tool:
        tap.skip('image/file-system', f'{tool} is not installed')
        return
    files = FileSystem(disk)
    tap.equal(files.check(), '', 'image/e2fsck-finds-nothing')
    differences = []
    for name in synced:
        got = files.read(f'{name}.rec') or b''
        expected = pattern(name, 0, FILE_SECTORS)
        if got != expected:
            differences.append(f'{name}: {first_difference(got, expected)}')
    tap.equal(differences, [], 'image/every-synced-file-is-whole')


def run(tap, work, options):
    machine.check_qemu(options.machine)
    disk = Disk(work, 'b', 48 * MIB, 2)
    daemon = harness.disk_daemon(options, work, disk)
    devices = [('vhost-user-blk', daemon, {'num-queues': disk.queues})]
    with harness.started([daemon]):
        with boot(options, work, devices, disk, ['vuboot=1']) as guest:
            synced = write_until_killed(guest)
        tap.ok(daemon.running(), 'qemu-killed/daemon-serves-on',
               daemon.process.reason())
        with boot(options, work, devices, disk, ['vuboot=2']) as guest:
            check_found(tap, guest, synced, 'qemu-killed/nothing-is-lost')
            synced += write_until_killed(guest, also=daemon)
        daemon.start()
        with boot(options, work, devices, disk,
                  ['vuboot=3', 'vulast=1']) as guest:
            check_found(tap, guest, synced, 'both-killed/nothing-is-lost')
            tap.equal(guest.wait_end(), 0, 'guest/switches-itself-off')
            tap.equal(dict(value.rsplit(' ', 1)
                           for value in guest.values('step')),
                      {'mount': '0', 'fsck': '0'}, 'guest/e2fsck')
        tap.equal(daemon.stop(), 0, 'daemon/ends-on-sigterm')
    check_image(tap, disk, synced)
    tap.note(f'{len(synced)} files were synced')


if __name__ == '__main__':
    harness.run_tests('/guest/power/{machine}-{kernel}', run,
                      machine.parse_options(__doc__))
