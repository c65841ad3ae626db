# SPDX-License-Identifier: GPL-2.0-or-later
"""What the guest's disks must hold, known without asking daemon or guest.

Owns: the pattern that the guest writes (the same as in init), and reading
images and the file systems in them.  Does not own the processes.
"""

import hashlib
import shutil
import struct
import subprocess

SECTOR = 512
MBR_TABLE = 446
MBR_ENTRY = struct.Struct('<B3sB3sII')


class Disk:
    """An image file and how the guest shall see it."""

    def __init__(self, work, name, sectors, queues, **more):
        self.name = name
        self.path = work / f'{name}.img'
        self.sectors = sectors
        self.queues = queues
        self.serial = f'VHU-{name}-0123456789'
        self.read_only = more.get('read_only', False)
        with self.path.open('wb') as image:
            image.write(more.get('contents', b''))
            image.truncate(sectors * SECTOR)

    def read(self, first, count):
        """Sectors of the image."""
        with self.path.open('rb') as image:
            image.seek(first * SECTOR)
            return image.read(count * SECTOR)

    def digest(self, first=0, count=None):
        count = self.sectors - first if count is None else count
        return digest(self.read(first, count))

    def allocated_bytes(self):
        """What the image takes on the host: less after a discard."""
        return self.path.stat().st_blocks * 512

    def partitions(self):
        """(type, first sector, sectors) of the partition table."""
        entries = MBR_ENTRY.iter_unpack(
            self.read(0, 1)[MBR_TABLE:MBR_TABLE + 4 * MBR_ENTRY.size])
        return [(kind, first, count)
                for _, _, kind, _, first, count in entries if count]


def digest(data):
    return hashlib.sha256(data).hexdigest()


def pattern(tag, first, count):
    """Sectors that say what and which they are, as "pattern" in init."""
    return b''.join(b'%-23s %0487d\n' % (tag.encode(), number)
                    for number in range(first, first + count))


def first_difference(got, expected):
    """Where two contents part, for a message."""
    if len(got) != len(expected):
        return f'{len(got)} bytes, expected {len(expected)}'
    for at, (one, other) in enumerate(zip(got, expected)):
        if one != other:
            return (f'byte {at % SECTOR} of sector {at // SECTOR} begins '
                    f'{got[at:at + 16]!r}, expected {expected[at:at + 16]!r}')
    return 'no difference'


class FileSystem:
    """An ext4 file system in an image, read by e2fsprogs on the host."""

    def __init__(self, disk, first_sector=0):
        self.image = f'{disk.path}?offset={first_sector * SECTOR}'

    @staticmethod
    def missing_tool():
        """The name of a tool that is not installed, or None."""
        for tool in ('debugfs', 'e2fsck'):
            if not tool_path(tool):
                return tool
        return None

    def check(self):
        """Complaints of e2fsck; empty when it finds nothing to say."""
        done = subprocess.run([tool_path('e2fsck'), '-fn', self.image],
                              capture_output=True, text=True, check=False)
        return '' if done.returncode == 0 else done.stdout + done.stderr

    def read(self, name):
        """Contents of a file; None when there is no such file."""
        done = subprocess.run([tool_path('debugfs'), '-R', f'cat {name}',
                               self.image], capture_output=True, check=False)
        if b'File not found' in done.stderr or done.returncode != 0:
            return None
        return done.stdout


def tool_path(tool):
    """Where a tool is, also where PATH of a user lacks /sbin."""
    return shutil.which(tool) or shutil.which(tool, path='/usr/sbin:/sbin')
