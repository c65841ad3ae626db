#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""configure keeps a folder that is configured usable, whatever it is asked.

A project of nothing but our options stands for the tree. Prints TAP.
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parents[2]
PROJECT = "project('p', version: '1')\n"


def configure(tree, *words):
    done = subprocess.run([tree / 'configure', *words], cwd=tree, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    return done.returncode, done.stdout


def chosen(tree, name):
    """What an option of the build folder is set to."""
    out = subprocess.run(['meson', 'introspect', '--buildoptions', 'build'],
                         cwd=tree, check=True, capture_output=True).stdout
    return next(option['value'] for option in json.loads(out)
                if option['name'] == name)


def contents(tree):
    """All that meson knows of the build folder; its log may grow."""
    return {path: path.read_bytes()
            for path in (tree / 'build').rglob('*')
            if path.is_file() and path.parent.name != 'meson-logs'}


def refused(tree, text, *words):
    """Fails for that reason, and has changed nothing."""
    before = contents(tree)
    status, out = configure(tree, *words)
    return (status != 0 and text in out and contents(tree) == before
            and chosen(tree, 'prefix') == '/opt')


def prefix_is_refused(tree):
    return refused(tree, "absolute path, not 'usr'", '--prefix=usr')


def what_meson_refuses_changes_nothing(tree):
    return refused(tree, 'nosuch', '--meson-option=nosuch=1')


def interrupted_is_made_good(tree):
    """A configure that was killed left what it had kept aside."""
    build = tree / 'build'
    (build / 'meson-aside').mkdir()
    for name in ('meson-private', 'meson-info'):
        (build / name).replace(build / 'meson-aside' / name)
    status, _ = configure(tree, '--meson-option=nosuch=1')
    return (status != 0 and not (build / 'meson-aside').exists()
            and chosen(tree, 'prefix') == '/opt')


def earlier_choice_is_forgotten(tree):
    status, _ = configure(tree)
    return (status == 0 and chosen(tree, 'prefix') == '/usr/local'
            and not (tree / 'build' / 'meson-aside').exists())


CHECKS = {
    'relative-prefix-changes-nothing': prefix_is_refused,
    'what-meson-refuses-changes-nothing': what_meson_refuses_changes_nothing,
    'what-was-interrupted-is-made-good': interrupted_is_made_good,
    'earlier-choice-is-forgotten': earlier_choice_is_forgotten,
}


def main():
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        for name in ('configure', 'meson_options.txt'):
            shutil.copy(TOP / name, tree)
        (tree / 'meson.build').write_text(PROJECT, encoding='utf-8')
        status, out = configure(tree, '--prefix=/opt')
        if status != 0:
            print(f'Bail out! configure fails: {out}')
            return 1
        print(f'1..{len(CHECKS)}')
        for number, (name, check) in enumerate(CHECKS.items(), 1):
            good = check(tree)
            failed += not good
            print(f"{'ok' if good else 'not ok'} {number} /configure/{name}")
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
