#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""scripts/count-tests counts every subtest once and lets no failure hide.

Prints TAP.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

COUNT_TESTS = pathlib.Path(__file__).resolve().parents[2] / 'scripts/count-tests'

# name: (result, stdout, stderr), closing line, exit status, text shown
CASES = {
    'counts-each-subtest': (
        ('OK', '1..3\nok 1 /a\n# ok 9 comment\nok 2 - b\nok 3 /c # SKIP why\n',
         ''), '2 passed, 0 failed, 1 skipped', 0, 'skipped: t: /c: why'),
    'a-failed-subtest-is-shown-with-its-comments': (
        ('ERROR', '1..2\nok 1 /a\n# because of 7\nnot ok 2 /b\n', ''),
        '1 passed, 1 failed, 0 skipped', 1, 'FAILED: t: /b\n    # because of 7'),
    'comments-after-a-failed-subtest-are-shown-too': (
        ('ERROR', '1..2\nnot ok 1 /a\n# got 8\nok 2 /b\n# fine\n', ''),
        '1 passed, 1 failed, 0 skipped', 1,
        'FAILED: t: /a\n    # got 8\n1 passed'),
    'a-crash-after-passed-subtests-is-a-failure': (
        ('ERROR', '1..2\nok 1 /a\n', 'gone'),
        '1 passed, 1 failed, 0 skipped', 1, 'exit status 1\n    gone'),
    'a-timeout-is-a-failure': (
        ('TIMEOUT', '1..2\nok 1 /a\nok 2 /b\n', ''),
        '2 passed, 1 failed, 0 skipped', 1, 'FAILED: t: timeout'),
    'a-test-without-subtests-counts-once': (
        ('OK', 'fine\n', ''), '1 passed, 0 failed, 0 skipped', 0, ''),
    'a-skipped-test-says-why': (
        ('SKIP', '1..0 # SKIP no qemu\n', ''),
        '0 passed, 0 failed, 1 skipped', 1, 'skipped: t: no qemu'),
    'an-expected-failure-is-not-a-pass': (
        ('OK', '1..2\nok 1 /a\nnot ok 2 /b # TO' + 'DO later\n', ''),
        '1 passed, 0 failed, 1 skipped', 0, '/b: later'),
    'nothing-run-is-a-failure': (None, '0 passed, 0 failed, 0 skipped', 1, ''),
}


def count(record, *more):
    with tempfile.NamedTemporaryFile('w+', suffix='.json') as log:
        if record:
            result, out, err = record
            json.dump({'name': 't', 'result': result, 'returncode': 1,
                       'duration': 1.5, 'stdout': out, 'stderr': err}, log)
        log.flush()
        return subprocess.run([sys.executable, COUNT_TESTS, *more, log.name],
                              capture_output=True, text=True, check=False)


def case_is_sound(record, closing, status, shown):
    done = count(record)
    lines = done.stdout.splitlines()
    return (lines and lines[-1] == closing and done.returncode == status
            and shown in done.stdout)


def steps_are_added():
    good = count(CASES['counts-each-subtest'][0], '--step', 'docs=ok')
    bad = count(CASES['counts-each-subtest'][0], '--step', 'docs=failed')
    return (good.stdout.endswith('3 passed, 0 failed, 1 skipped\n')
            and good.returncode == 0 and bad.returncode == 1
            and 'FAILED: docs' in bad.stdout)


def figures_reach_the_table():
    with tempfile.NamedTemporaryFile('r') as table:
        count(('OK', '1..1\n# result: kills: 20\nok 1 /a\n', ''),
              '--results', table.name)
        return table.read() == ('t: 1 passed, 0 failed, 0 skipped, 1.5 s\n'
                                '    kills: 20\n')


def main():
    checks = [(name, lambda case=case: case_is_sound(*case))
              for name, case in CASES.items()]
    checks += [('steps-are-added', steps_are_added),
               ('figures-reach-the-table', figures_reach_the_table)]
    failed = 0
    print(f'1..{len(checks)}')
    for number, (name, check) in enumerate(checks, 1):
        good = check()
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} /count-tests/{name}")
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
