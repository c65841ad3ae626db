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


def log_line(record):
    result, out, err = record
    return json.dumps({'name': 't', 'result': result, 'returncode': 1,
                       'duration': 1.5, 'stdout': out, 'stderr': err}) + '\n'


def count_log(text, listed, *more):
    """Counts a log of this text (None: no log), of which these are listed."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / 'quick.json'
        if text is not None:
            log.write_text(text, encoding='utf-8')
        log.with_suffix('.list').write_text(''.join(
            f'{name}\n' for name in listed), encoding='utf-8')
        return subprocess.run([sys.executable, COUNT_TESTS, *more, log],
                              capture_output=True, text=True, check=False)


def count(record, *more):
    if record is None:
        return count_log('', [], *more)
    return count_log(log_line(record), ['t'], *more)


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


def missing_is_a_failure(text, listed, closing, missing):
    done = count_log(text, listed)
    lines = done.stdout.splitlines()
    shown = [line.split(': missing')[0] for line in lines[:-1]]
    return (lines[-1] == closing and done.returncode == 1
            and shown == [f'FAILED: {name}' for name in missing])


GOOD = log_line(('OK', 'fine\n', ''))

# name: arguments of missing_is_a_failure
MISSING = {
    'a-test-that-was-not-run-is-a-failure': (
        GOOD, ['t', 'u', 'v'], '1 passed, 2 failed, 0 skipped', ['u', 'v']),
    'a-test-whose-line-is-cut-short-is-a-failure': (
        GOOD + GOOD[:30], ['t', 't'], '1 passed, 1 failed, 0 skipped', ['t']),
    'without-a-log-all-are-failures': (
        None, ['t', 'u'], '0 passed, 2 failed, 0 skipped', ['t', 'u']),
}


def main():
    checks = [(name, lambda case=case: case_is_sound(*case))
              for name, case in CASES.items()]
    checks += [(name, lambda case=case: missing_is_a_failure(*case))
               for name, case in MISSING.items()]
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
