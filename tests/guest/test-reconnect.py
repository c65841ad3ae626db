#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons are killed and started again while a guest writes.

Ten writers in the guest rewrite their regions of two disks, pass by
pass, each sector naming the writer, the pass and itself.  Daemons die by
SIGKILL with requests in flight (the guest counts them while the daemon is
dead) and come back; no write may fail, be lost, or be done again over a
later one.
"""

import re
import statistics

import harness
import machine
from oracle import SECTOR, Disk, digest, first_difference, pattern

MIB = 1024 * 1024 // SECTOR

# Region of each writer of a disk, as in init: name, first sector, sectors.
REGIONS = [(str(i), i * 1024, 512) for i in range(4)] + [
    ('bulk', 16384, 8192)]
# Regions of disk a that are written with the same all the time.
HAMMERED = [(f'hammer-{i}', 8192 + i * 1024, 256) for i in range(4)]
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


def slow_down(guest):
    """The guest does without the write cache of disk a from now on."""
    guest.say('slow')
    return guest.wait_fact('cache')


def kill_and_restart(guest, pairs):
    """Kills the daemons of some disks; returns the requests in flight.

    The moment is when the guest writes back what it buffered.
    """
    slow_down(guest)
    names = [f'{disk.name}-bulk' for disk, _ in pairs]
    while guest.wait_fact('syncing') not in names:
        pass
    guest.wait_fact('pass')
    for _, daemon in pairs:
        daemon.kill()
    inflight = count_inflight(guest, [disk for disk, _ in pairs])
    for _, daemon in pairs:
        daemon.start()
    return inflight


def count_resubmitted(pairs):
    """Requests that were in the hands of daemons when they died."""
    pattern_of_log = r'queue \d+: (\d+) requests were in flight'
    return [int(number) for _, daemon in pairs
            for number in re.findall(pattern_of_log,
                                     daemon.log.read_text())]


def put(image, first, data):
    image[first * SECTOR:first * SECTOR + len(data)] = data


def check_regions(tap, guest, disks):
    """Each region holds its writer's last pass, and the rest nothing."""
    finals = {value.split(' ')[0]: value.split(' ')[1:]
              for value in guest.values('final')}
    for disk in disks:
        expected = bytearray(disk.sectors * SECTOR)
        wrong = []
        for name, first, count in HAMMERED if disk.name == 'a' else []:
            put(expected, first, pattern(name, first, count))
        for name, first, count in REGIONS:
            writer = f'{disk.name}-{name}'
            number, shown = finals.get(writer, ('0', ''))
            data = pattern(f'{writer}-pass-{number}', first, count)
            put(expected, first, data)
            if shown != digest(data):
                wrong.append(writer)
        tap.equal(wrong, [], f'disk-{disk.name}/guest-reads-the-last-passes')
        got = disk.read(0, disk.sectors)
        tap.ok(got == expected, f'image-{disk.name}/holds-the-last-passes',
               first_difference(got, bytes(expected)))


def run(tap, work, options):
    if options.daemon == 'qsd':
        raise harness.Skip('qemu-storage-daemon keeps no inflight region')
    machine.check_qemu(options.machine)
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
        with machine.booted(options, work, 'reconnect', devices,
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
    check_kills(tap, inflight, count_resubmitted(pairs))
    tap.result('passes', len(guest.values('pass')))


def check_kills(tap, inflight, resubmitted):
    """The daemons were killed in the middle of work."""
    tap.ok(min(inflight) > 0, 'kills/found-requests-in-flight',
           str(inflight))
    name = 'kills/found-requests-in-the-hands-of-daemons'
    if resubmitted:
        tap.ok(True, name)
    else:
        tap.skip(name, 'the host writes too fast')
    tap.result('kills', len(inflight))
    tap.result('median-of-requests-in-flight', statistics.median(inflight))
    tap.result('requests-done-again', sum(resubmitted))


if __name__ == '__main__':
    harness.run_tests('/guest/reconnect/{machine}-{kernel}', run,
                      machine.parse_options(
        __doc__, kills=(6, 'how often daemons are killed')))
