#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons are killed and started again while a guest writes.

Ten writers in the guest rewrite their regions of two disks, pass by
pass, each sector naming the writer, the pass and itself.  Daemons die by
SIGKILL with requests in flight (the guest counts them while the daemon is
dead) and come back; no write may fail, be lost, or be done again over a
later one.
"""

import statistics

import harness
from oracle import SECTOR, Disk, digest, first_difference, pattern

MIB = 1024 * 1024 // SECTOR

# Region of each writer of a disk, as in init: name, first sector, sectors.
REGIONS = [(str(i), i * 1024, 512) for i in range(4)] + [
    ('bulk', 16384, 8192)]
# So many equal counts in a row mean that nothing moves any more; those that
# were under way when the daemon died cannot make them all.
STABLE = 4


def wait_progress(guest, writers):
    """Every writer of the guest ends a pass that it began after now."""
    ended = dict.fromkeys(writers, 0)
    while min(ended.values()) < 2:
        name = guest.wait_fact('pass').split(' ')[0]
        ended[name] += 1


def count_inflight(guest, victims):
    """Requests that the guest waits for, once their number stands still."""
    last = None
    same = 0
    while same < STABLE:
        now = [int(word) for word in guest.wait_fact('inflight').split(' ')]
        counts = [now['ab'.index(disk.name)] for disk in victims]
        same = same + 1 if counts == last and min(counts) > 0 else 0
        last = counts
    return sum(last)


def kill_and_restart(guest, pairs):
    """Kills the daemons of some disks; returns the requests in flight.

    The moment is when the guest begins to write back what it buffered.
    """
    names = [f'{disk.name}-bulk' for disk, _ in pairs]
    while guest.wait_fact('syncing') not in names:
        pass
    for _, daemon in pairs:
        daemon.kill()
    inflight = count_inflight(guest, [disk for disk, _ in pairs])
    for _, daemon in pairs:
        daemon.start()
    return inflight


def check_regions(tap, guest, disks):
    """Each region holds its writer's last pass, and the rest nothing."""
    finals = {value.split(' ')[0]: value.split(' ')[1:]
              for value in guest.values('final')}
    for disk in disks:
        expected = bytearray(disk.sectors * SECTOR)
        wrong = []
        for name, first, count in REGIONS:
            writer = f'{disk.name}-{name}'
            number, shown = finals.get(writer, ('0', ''))
            data = pattern(f'{writer}-pass-{number}', first, count)
            expected[first * SECTOR:(first + count) * SECTOR] = data
            if shown != digest(data):
                wrong.append(writer)
        tap.equal(wrong, [], f'disk-{disk.name}/guest-reads-the-last-passes')
        got = disk.read(0, disk.sectors)
        tap.ok(got == expected, f'image-{disk.name}/holds-the-last-passes',
               first_difference(got, bytes(expected)))


def run(tap, work, options):
    if options.daemon == 'qsd':
        raise harness.Skip('qemu-storage-daemon keeps no inflight region')
    harness.check_qemu(options.machine)
    disks = [Disk(work, 'a', 32 * MIB, 2), Disk(work, 'b', 24 * MIB, 4)]
    pairs = [(disk, harness.disk_daemon(options, work, disk))
             for disk in disks]
    devices = [('vhost-user-blk', daemon,
                {'num-queues': disk.queues, 'reconnect': True})
               for disk, daemon in pairs]
    writers = [f'{disk.name}-{name}' for disk in disks
               for name, _, _ in REGIONS]
    inflight = []
    with harness.started([daemon for _, daemon in pairs]):
        with harness.booted(options, work, 'reconnect', devices,
                            environment=[f'vu{disk.name}={disk.sectors}'
                                         for disk in disks]) as guest:
            for kill in range(options.kills):
                wait_progress(guest, writers)
                victims = [pairs[:1], pairs[1:], pairs][kill % 3]
                inflight.append(kill_and_restart(guest, victims))
            wait_progress(guest, writers)
            guest.say('stop')
            tap.equal(guest.wait_end(), 0, 'guest/switches-itself-off')
            tap.equal(guest.values('write-failed'), [],
                      'guest/no-write-fails')
            check_regions(tap, guest, disks)
    tap.ok(min(inflight) > 0, 'kills/found-requests-in-flight',
           str(inflight))
    tap.result('kills', len(inflight))
    tap.result('median-of-requests-in-flight', statistics.median(inflight))
    tap.result('passes', len(guest.values('pass')))


if __name__ == '__main__':
    harness.run_tests('/guest/reconnect/{machine}-{kernel}', run,
                      harness.parse_options(
        __doc__, kills=(6, 'how often daemons are killed')))
