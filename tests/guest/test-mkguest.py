#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/mkguest keeps its word: same bytes, no leftovers, no root."""

import os
import shutil
import subprocess

import harness
import machine

NOBODY = 65534
KERNEL = '6.12'
MADE = ['initramfs', 'made-of.json', 'vmlinuz']

# An apt that knows no package, and cannot reach where they are.
EMPTY_APT = '''\
Dir::State::lists "{folder}/lists";
Dir::State::status "/dev/null";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
'''


def mkguest(output, *arguments, **popen):
    return subprocess.run(
        [harness.TOP / 'scripts' / 'mkguest', '--output', output,
         '--kernel', KERNEL, *arguments],
        capture_output=True, text=True, check=False, **popen)


def contents(folder):
    """All files below a folder, by their relative names."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def check_builds(tap, work, cache):
    first = mkguest(work / 'one', '--cache', cache)
    if first.returncode == machine.MKGUEST_NO_PACKAGES:
        raise harness.Skip(first.stderr.strip())
    tap.equal(first.returncode, 0, 'makes-a-guest')
    one = contents(work / 'one')
    tap.equal(sorted(one), [f'{KERNEL}/{name}' for name in MADE],
              'leaves-nothing-but-the-guest')
    mkguest(work / 'two', '--cache', cache)
    tap.ok(contents(work / 'two') == one, 'same-packages-give-same-bytes')
    image = work / 'one' / KERNEL / 'initramfs'
    before = image.stat().st_mtime_ns
    mkguest(work / 'one', '--cache', cache)
    tap.equal(image.stat().st_mtime_ns, before, 'second-run-makes-nothing')
    image.unlink()
    mkguest(work / 'one', '--cache', cache)
    tap.ok(contents(work / 'one') == one, 'damaged-guest-is-made-again')


def check_damaged_package(tap, work, cache):
    """A package that is cut short in the cache is not used."""
    own = work / 'damaged'
    shutil.copytree(cache, own)
    package = next(own.glob('busybox-static_*.deb'))
    whole = package.read_bytes()
    os.truncate(package, len(whole) // 2)
    done = mkguest(work / 'three', '--cache', own)
    if done.returncode == machine.MKGUEST_NO_PACKAGES:
        tap.skip('damaged-package-is-fetched-again', done.stderr.strip())
        return
    tap.ok(done.returncode == 0 and package.read_bytes() == whole,
           'damaged-package-is-fetched-again', done.stderr)


def check_without_packages(tap, work):
    config = work / 'apt.conf'
    config.write_text(EMPTY_APT.format(folder=work))
    (work / 'sources.list').write_text(f'deb file:{work}/gone bookworm main\n')
    (work / 'lists' / 'partial').mkdir(parents=True)
    output = work / 'none'
    done = mkguest(output, env={**os.environ, 'APT_CONFIG': str(config)})
    tap.equal(done.returncode, machine.MKGUEST_NO_PACKAGES,
              'without-packages-says-so-by-its-status')
    tap.ok('linux-image-6.12-cloud-amd64' in done.stderr,
           'without-packages-names-the-package', done.stderr)
    tap.ok('"apt-get update" cannot' in done.stderr,
           'without-network-says-what-failed', done.stderr)
    tap.equal([path.name for path in output.iterdir()
               if path.name != 'cache'], [],
              'without-packages-leaves-no-guest')


def check_without_root(tap, work, cache):
    if os.geteuid() != 0:
        tap.skip('needs-no-root', 'all of this ran without root')
        return
    folder = work / 'nobody'
    shutil.copytree(cache, folder / 'cache')
    for path in [work, folder, folder / 'cache',
                 *(folder / 'cache').rglob('*')]:
        os.chown(path, NOBODY, NOBODY)
    # Only a readable tree can be run by somebody else.
    script = shutil.copytree(harness.TOP / 'scripts',
                             folder / 'tree' / 'scripts') / 'mkguest'
    shutil.copytree(harness.TOP / 'tests' / 'guest',
                    folder / 'tree' / 'tests' / 'guest')
    done = subprocess.run(
        [script, '--output', folder / 'out', '--cache', folder / 'cache',
         '--kernel', KERNEL], capture_output=True, text=True, check=False,
        user=NOBODY, group=NOBODY, extra_groups=[],
        env={'PATH': '/usr/bin:/bin:/usr/sbin:/sbin', 'HOME': '/'})
    tap.ok(done.returncode == 0 and
           contents(folder / 'out') == contents(work / 'one'),
           'needs-no-root', done.stderr)


def run(tap, work, options):
    machine.make_guest(options)    # fills the cache that the others use
    cache = machine.guest_cache(options)
    refused = mkguest(work / 'refused', '--kernel', '2.4')
    tap.ok(refused.returncode == 2 and not (work / 'refused').exists(),
           'unknown-kernel-is-refused', refused.stderr)
    check_builds(tap, work, cache)
    check_damaged_package(tap, work, cache)
    check_without_root(tap, work, cache)
    check_without_packages(tap, work)


if __name__ == '__main__':
    harness.run_tests('/guest/mkguest', run, machine.parse_options(__doc__))
