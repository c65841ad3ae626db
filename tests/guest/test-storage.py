#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A Linux guest partitions, formats, writes, verifies, discards, reboots.

Three disks (two writable with several queues, one read-only) and an entropy
source are served to a guest under QEMU.  The guest reports what it reads
back; afterwards the images are compared byte for byte with what the guest
was told to write, without daemon or guest.
"""

import random

import harness
import machine
from oracle import (SECTOR, Disk, FileSystem, digest, first_difference,
                    pattern)

MIB = 1024 * 1024 // SECTOR
PART_1 = (0x83, 2048, 65536)
PART_2 = (0x83, 67584, 63488)
FILES = {f'file-{i}': pattern(f'file-{i}', 0, i * 700) for i in range(1, 6)}
TRIMMED = 'file-5'

# What the guest reports of each boot, as in init.
STEPS = {
    'first': ['partition', 'mkfs', 'write-files', 'write-raw', 'fill',
              'written-files', 'written-fsck', 'trim', 'discard', 'zero',
              'discarded-files', 'discarded-fsck', 'read-only-write',
              'read-only-discard', 'mark'],
    'second': ['rebooted-files', 'rebooted-fsck', 'append', 'mark'],
}
REFUSED = ['read-only-write', 'read-only-discard']

DISCARDED = (4 * MIB, 8 * MIB)
ZEROED = (20 * MIB, 4 * MIB)
# One block group of the freed file may stay; the discard must be seen.
SLACK = 1 * MIB * SECTOR


class Storage:
    """The disks, the entropy source and what must come of them."""

    def __init__(self, options, work):
        self.options = options
        self.work = work
        source = random.Random(2).randbytes(4 << 20)
        (work / 'entropy').write_bytes(source)
        self.entropy = source
        read_only = random.Random(1).randbytes(16 * MIB * SECTOR)
        self.a = Disk(work, 'a', 64 * MIB, 2)
        self.b = Disk(work, 'b', 48 * MIB, 4)
        self.c = Disk(work, 'c', 16 * MIB, 1, read_only=True,
                      contents=read_only)
        self.disks = [self.a, self.b, self.c]
        self.before = {'a2': digest(pattern('raw-a2', 0, PART_2[2])),
                       'b': digest(self.contents_b(discarded=False)),
                       'c': digest(read_only)}
        self.after = dict(self.before,
                          b=digest(self.contents_b(discarded=True)))

    def contents_b(self, discarded):
        data = bytearray(pattern('fill-b', 0, self.b.sectors))
        if discarded:
            for first, count in (DISCARDED, ZEROED):
                data[first * SECTOR:(first + count) * SECTOR] = \
                    bytes(count * SECTOR)
        return bytes(data)

    def devices(self):
        devices = [
            ('vhost-user-blk',
             harness.disk_daemon(self.options, self.work, disk),
             {'num-queues': disk.queues}) for disk in self.disks]
        if self.options.daemon == 'own':
            devices.append(
                ('vhost-user-rng', harness.own_daemon(
                    self.options, self.work, 'rng', 'rng',
                    ['--source', self.work / 'entropy']), {}))
        return devices

    def environment(self):
        words = [f'vu{disk.name}={disk.sectors}' for disk in self.disks]
        return words + ['vurng=1'] * (self.options.daemon == 'own')


def check_steps(tap, guest, boot):
    """The guest took every step of a boot, and each ended as it should."""
    ends = dict(value.rsplit(' ', 1) for value in guest.values('step'))
    for name in STEPS[boot]:
        if name in REFUSED:
            tap.ok(ends.get(name, '0') != '0', f'guest/{name}-is-refused')
        else:
            tap.equal(ends.get(name), '0', f'guest/{name}')


def check_disks(tap, guest, storage):
    for disk in storage.disks:
        shown = dict(word.split('=', 1)
                     for word in guest.values(f'disk-{disk.name}')[0].split())
        tap.equal(shown['ro'], '1' if disk.read_only else '0',
                  f'disk-{disk.name}/read-only-as-served')
        # Linux makes no more queues than there are CPUs, here two.
        tap.equal(shown['queues'], str(min(disk.queues, 2)),
                  f'disk-{disk.name}/number-of-queues')
        if storage.options.daemon == 'own':
            tap.equal(shown['serial'], disk.serial[:20],
                      f'disk-{disk.name}/get-id-is-its-serial-number')
        if not disk.read_only:
            tap.ok(int(shown['discard']) > 0,
                   f'disk-{disk.name}/discard-is-offered')
            tap.ok(int(shown['zeroes']) > 0,
                   f'disk-{disk.name}/write-zeroes-is-offered')


def check_queues(tap, guest, options):
    name = 'disks/both-queues-of-both-carry-requests'
    if options.machine == 'microvm':
        tap.skip(name, 'virtio-mmio has one interrupt for all queues')
        return
    counts = dict(word.split('=')
                  for word in guest.values('queue-interrupts')[0].split())
    used = [queue for queue, count in counts.items()
            if int(count) > 0 and queue.endswith(('req.0', 'req.1'))]
    devices = {queue.split('-')[0] for queue in used
               if queue.endswith('req.1')}
    tap.ok(len(devices) == 2 and len(used) >= 4, name, str(counts))


def check_entropy(tap, guest, storage):
    if storage.options.daemon != 'own':
        tap.skip('entropy/is-served', 'qemu-storage-daemon serves none')
        return
    tap.equal(guest.values('rng-current'), ['virtio_rng.0'],
              'entropy/guest-uses-the-daemon')
    reads = [bytes.fromhex(value) for value in guest.values('rng-bytes')]
    pieces = [data[at:at + 16] for data in reads for at in range(0, 64, 16)]
    places = [storage.entropy.find(piece) for piece in pieces]
    tap.ok(len(pieces) == 16 and min(places) >= 0,
           'entropy/is-the-bytes-of-the-source', str(places))
    tap.equal(len(set(places)), len(places), 'entropy/never-comes-twice')
    tap.equal(guest.values('rng-size'), ['16384'],
              'entropy/16-kib-are-read')


def check_contents(tap, guest, stage, expected, files):
    """What the guest read back at a stage."""
    shown = dict(value.split(' ')[1:] for value in guest.values('contents')
                 if value.split(' ')[0] == stage)
    tap.equal(shown, expected, f'{stage}/guest-reads-what-it-wrote')
    read = dict(value.split(' ')[1:] for value in guest.values('file')
                if value.split(' ')[0] == stage)
    tap.equal(read, {name: digest(FILES[name]) for name in files},
              f'{stage}/guest-reads-its-files')


def check_images(tap, storage):
    """The images, read without daemon and guest."""
    a, b, c = storage.disks
    tap.equal(a.partitions(), [PART_1, PART_2],
              'image-a/partition-table')
    for name, got, expected in (
            ('a/second-partition', a.read(*PART_2[1:]),
             pattern('raw-a2', 0, PART_2[2])),
            ('b/all', b.read(0, b.sectors),
             storage.contents_b(discarded=True)),
    ):
        tap.ok(got == expected, f'image-{name}-is-as-written',
               first_difference(got, expected))
    tap.equal(c.digest(), storage.before['c'],
              'image-c/read-only-disk-is-unchanged')
    check_file_system(tap, a)
    if harness.can_punch_holes(storage.work):
        limit = (b.sectors - DISCARDED[1]) * SECTOR + SLACK
        tap.ok(b.allocated_bytes() <= limit,
               'image-b/discarded-blocks-are-given-back',
               f'{b.allocated_bytes()} bytes, at most {limit}')
    else:
        tap.skip('image-b/discarded-blocks-are-given-back',
                 f'{storage.work} cannot punch holes')


def check_file_system(tap, disk):
    tool = FileSystem.missing_tool()
    if tool:
        tap.skip('image-a/file-system', f'{tool} is not installed')
        return
    files = FileSystem(disk, PART_1[1])
    tap.equal(files.check(), '', 'image-a/e2fsck-finds-nothing')
    for name, expected in FILES.items():
        got = files.read(name)
        if name == TRIMMED:
            tap.equal(got, None, f'image-a/{name}-is-removed')
        else:
            tap.ok(got == expected, f'image-a/{name}-is-as-written',
                   first_difference(got or b'', expected))
    tap.equal(files.read('second'), b'second boot\n',
              'image-a/file-of-the-second-boot-is-there')


def run(tap, work, options):
    machine.check_qemu(options.machine)
    storage = Storage(options, work)
    devices = storage.devices()
    daemons = [daemon for _, daemon, _ in devices]
    kept = sorted(set(FILES) - {TRIMMED})
    with harness.started(daemons):
        with machine.booted(options, work, 'storage', devices,
                            environment=storage.environment()) as guest:
            tap.note(f'guest kernel {guest.wait_fact("boot")}')
            tap.equal(guest.wait_fact('end'), 'first', 'guest/first-boot')
            check_disks(tap, guest, storage)
            check_entropy(tap, guest, storage)
            check_steps(tap, guest, 'first')
            check_queues(tap, guest, options)
            check_contents(tap, guest, 'written', storage.before, FILES)
            check_contents(tap, guest, 'discarded', storage.after, kept)
            guest.wait_fact('boot')
            tap.equal(guest.wait_fact('end'), 'second', 'guest/second-boot')
            tap.equal(guest.wait_end(), 0, 'guest/switches-itself-off')
            check_steps(tap, guest, 'second')
            check_contents(tap, guest, 'rebooted', storage.after, kept)
        for daemon in daemons:
            tap.ok(daemon.running(), f'daemon-{daemon.name}/'
                   'serves-on-when-the-guest-is-gone', daemon.process.reason())
            tap.equal(daemon.stop(), 0,
                      f'daemon-{daemon.name}/ends-on-sigterm')
    check_images(tap, storage)


if __name__ == '__main__':
    harness.run_tests('/guest/storage/{machine}-{kernel}', run,
                      machine.parse_options(__doc__))
