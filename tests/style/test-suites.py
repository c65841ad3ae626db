#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every test is declared as docs/devel/testing.rst says.

Usage: test-suites.py BUILD-DIR

A test in no suite, or in one of another name, would be left out of
scripts/test or of .ci/run without anyone noticing. Prints TAP.
"""

import json
import subprocess
import sys

SUITES = {'unit', 'loopback', 'guest', 'interop', 'fuzz', 'install', 'style',
          'campaign'}

RULES = {
    'every-test-is-in-a-known-suite':
        lambda test: {name.split(':')[-1] for name in test['suite']} <= SUITES
        and test['suite'],
    'every-test-speaks-tap': lambda test: test['protocol'] == 'tap',
    'every-test-has-a-time-out': lambda test: test['timeout'] > 0,
}


def main():
    tests = json.loads(subprocess.run(
        ['meson', 'introspect', '--tests', sys.argv[1]], check=True,
        capture_output=True).stdout)
    failed = 0
    print(f'1..{len(RULES)}')
    for number, (name, rule) in enumerate(RULES.items(), 1):
        wrong = [test['name'] for test in tests if not rule(test)]
        failed += bool(wrong)
        for test in wrong:
            print(f'# {test}')
        print(f"{'not ok' if wrong or not tests else 'ok'} {number} "
              f'/suites/{name}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
