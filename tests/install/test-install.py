#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What `meson install` leaves behind can be used.

Usage: test-install.py BUILD-DIR

Installs below a temporary folder and uses it from there: a program is
compiled against the library by way of pkg-config, and the descriptions of
the back ends are followed to their programs. Prints TAP.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

PROGRAM = r'''
#include <vhu/backend.h>
#include <vhu/frontend.h>
#include <stdio.h>

int main(void)
{
    VhuError err = {0};
    VhuLoop *loop = vhu_loop_new(&err);

    puts(vhu_message_spec(VHU_FROM_FRONTEND, VHOST_USER_GET_CONFIG)->name);
    vhu_loop_free(loop);
    return loop ? 0 : 1;
}
'''


class Failure(Exception):
    """Says what is wrong."""


def run(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True,
                          check=False, **more)
    if done.returncode:
        raise Failure(f'{command[0]}: {done.stdout}{done.stderr}')
    return done.stdout


def find(root, pattern):
    return sorted(root.rglob(pattern))


def library_is_usable(root):
    """A program finds, links and runs with the shared library."""
    pc_files = find(root, 'libvhu.pc')
    if len(pc_files) != 1:
        raise Failure(f'{len(pc_files)} files libvhu.pc')
    env = dict(os.environ, PKG_CONFIG_PATH=str(pc_files[0].parent),
               PKG_CONFIG_SYSROOT_DIR=str(root),
               LD_LIBRARY_PATH=str(find(root, 'libvhu.so.*')[0].parent))
    flags = run('pkg-config', '--cflags', '--libs', 'libvhu', env=env).split()
    source, program = root / 'program.c', root / 'program'
    source.write_text(PROGRAM, 'utf-8')
    run('cc', '-Wall', '-Wextra', '-Werror', '-o', str(program), str(source),
        *flags, env=env)
    said = run(str(program), env=env)
    if 'GET_CONFIG' not in said:
        raise Failure(f'the program said {said!r}')


def library_shows_only_its_own(root):
    """Every symbol of the shared library has the library's prefix."""
    library = find(root, 'libvhu.so.*')[0]
    names = [line.split()[-1].split('@')[0] for line in
             run('nm', '-D', '--defined-only', str(library)).splitlines()]
    strange = [name for name in names if not name.startswith('vhu_')]
    if strange or not names:
        raise Failure(f'{len(names)} symbols, strange: {strange}')


def daemons(root):
    folders = find(root, 'libexec/qemu-vhost-user')
    found = [path for folder in folders for path in folder.iterdir()]
    if not found:
        raise Failure('no daemon was installed')
    return found


def descriptions_name_programs(root):
    """Each daemon has one description, which names it by absolute path and
    agrees with what the program prints of itself."""
    named = []
    for path in find(root, 'share/qemu/vhost-user/*.json'):
        text = json.loads(path.read_text('utf-8'))
        program = root / text['binary'].lstrip('/')
        if program not in daemons(root):
            raise Failure(f'{path.name} names {text["binary"]}')
        said = json.loads(run(str(program), '--print-capabilities'))
        if said['type'] != text['type']:
            raise Failure(f'{path.name} is of type {text["type"]}, the '
                          f'program says {said["type"]}')
        named.append(program)
    if sorted(named) != sorted(daemons(root)):
        raise Failure(f'described: {named}')


def daemons_have_man_pages(root):
    """man finds a page that says more than a name."""
    for program in daemons(root):
        pages = find(root, f'share/man/man1/{program.name}.1')
        if len(pages) != 1:
            raise Failure(f'{program.name} has {len(pages)} man pages')
        text = pages[0].read_text('utf-8')
        for want in ('.TH', 'SYNOPSIS', 'OPTIONS', r'socket\-path'):
            if want not in text:
                raise Failure(f'{pages[0].name} lacks {want}')


CHECKS = {
    'library-is-usable-through-pkg-config': library_is_usable,
    'library-exports-only-its-own-prefix': library_shows_only_its_own,
    'descriptions-name-installed-programs': descriptions_name_programs,
    'daemons-have-man-pages': daemons_have_man_pages,
}


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        run('meson', 'install', '-C', sys.argv[1], '--no-rebuild', '--quiet',
            '--destdir', folder)
        print(f'1..{len(CHECKS)}')
        for number, (name, check) in enumerate(CHECKS.items(), 1):
            word = 'ok'
            try:
                check(root)
            except Failure as wrong:
                word = 'not ok'
                failed += 1
                print('# ' + str(wrong).replace('\n', '\n# '))
            print(f'{word} {number} /install/{name}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
