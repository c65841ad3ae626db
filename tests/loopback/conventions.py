#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What managers, users and readers rely on, checked for one daemon.

Usage: conventions.py PROGRAM README DESCRIPTION FOLDER BINARY
       conventions.py --update PROGRAM README

PROGRAM is run; README has its list of options between two markers;
DESCRIPTION is the JSON file that is installed in FOLDER and names BINARY.
--update puts the list of options into README. Prints TAP.
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys

BEGIN = '.. begin options\n'
END = '.. end options\n'

# VHostUserBackendType, and the features of its members, of vhost-user.json.
FEATURES = {
    '9p': None, 'balloon': None, 'block': {'read-only', 'blk-file'},
    'caif': None, 'console': None, 'crypto': None,
    'gpu': {'render-node', 'virgl'}, 'input': {'evdev-path', 'no-grab'},
    'net': None, 'rng': None, 'rpmsg': None, 'rproc-serial': None,
    'scsi': None, 'vsock': None, 'fs': None,
}


class Skip(Exception):
    pass


class Failure(Exception):
    pass


def expect(truth, what):
    if not truth:
        raise Failure(what)


class Daemon:
    def __init__(self, program, readme, description='', folder='', binary=''):
        self.program = program
        self.name = pathlib.Path(program).name
        self.readme = pathlib.Path(readme)
        self.description = description
        self.folder = folder
        self.binary = binary

    def run(self, *arguments):
        return subprocess.run([self.program, *arguments], timeout=20,
                              stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, check=False)

    def output(self, *arguments):
        done = self.run(*arguments)
        expect(done.returncode == 0 and not done.stderr,
               f'{arguments}: status {done.returncode}, {done.stderr!r}')
        return done.stdout

    def options(self):
        """Names of all options, from the manual."""
        return re.findall(r'^``--([a-z0-9-]+)',
                          self.output('--print-manual=rst')
                          + self.output('--print-manual=rst-common'), re.M)

    # ---- the tests ----

    def capabilities_are_of_the_schema(self):
        answer = json.loads(self.output('--print-capabilities'))
        expect(set(answer) <= {'type', 'features'}, answer)
        allowed = FEATURES.get(answer['type'])
        if answer['type'] in FEATURES:
            expect(set(answer.get('features', ())) <= (allowed or set()),
                   answer)
        features = set(answer.get('features', ()))
        expect(features <= set(self.options()) | {'virgl'}, answer)

    def capabilities_ignore_all_else(self):
        expect(self.output('--nonsense', '--fd=x', '--print-capabilities',
                           'word')
               == self.output('--print-capabilities'), 'they differ')

    def description_is_of_the_schema(self):
        with open(self.description, encoding='utf-8') as file:
            known = json.load(file)
        expect(set(known) <= {'description', 'type', 'binary', 'tags'}
               and {'description', 'type', 'binary'} <= set(known), known)
        expect(all(isinstance(known[key], str)
                   for key in ('description', 'type', 'binary')), known)
        expect(all(isinstance(tag, str) for tag in known.get('tags', [])),
               known)
        expect(known['binary'] == self.binary
               and pathlib.Path(self.binary).is_absolute()
               and pathlib.Path(self.binary).name == self.name, known)
        expect(known['type']
               == json.loads(self.output('--print-capabilities'))['type'],
               known)

    def description_is_where_strict_parsers_do_not_trip(self):
        with open(self.description, encoding='utf-8') as file:
            kind = json.load(file)['type']
        wanted = ('qemu/vhost-user' if kind in FEATURES
                  else 'qemu-vhost-user/backends')
        expect(self.folder.endswith(wanted), f'{kind} in {self.folder}')
        name = pathlib.Path(self.description).name
        expect(re.fullmatch(r'[0-9]{2}-[a-z0-9-]+\.json', name), name)

    def help_lists_all_options_in_80_columns(self):
        text = self.output('--help')
        for name in self.options():
            expect(re.search(rf'--{name}\b', text), f'--{name} is missing')
        expect(max(map(len, text.splitlines())) < 80, 'a line is too long')

    def manual_page_is_clean(self):
        if not shutil.which('groff'):
            raise Skip('there is no groff')
        page = self.output('--print-manual=man')
        done = subprocess.run(['groff', '-man', '-ww', '-z', '-Tutf8'],
                              input=page, text=True, capture_output=True,
                              check=False)
        expect(done.returncode == 0 and not done.stderr, done.stderr)
        plain = page.replace('\\-', '-')
        for name in self.options():
            expect(f'\\fB--{name}\\fR' in plain, f'--{name} is missing')

    def readme_lists_the_options(self):
        text = self.readme.read_text(encoding='utf-8')
        expect(text.count(BEGIN) == 1 and text.count(END) == 1,
               f'{self.readme} has no markers')
        listed = text[text.index(BEGIN) + len(BEGIN):text.index(END)]
        expect(listed.strip() == self.output('--print-manual=rst').strip(),
               f'{self.readme} is behind the table of options; run '
               f'conventions.py --update {self.program} {self.readme}')
        for heading in ('Description', 'Synopsis', 'Options', 'Examples'):
            expect(f'\n{heading}\n' in text, f'{heading} is missing')

    def version_names_program_and_project(self):
        expect(re.fullmatch(
            rf'{self.name} \d+\.\d+\.\d+ \(qemu-vhost-user\)\n',
            self.output('--version')), self.output('--version'))

    def wrong_option_is_told(self):
        done = self.run('--socket-path=/nonexistent', '--nonsense')
        expect(done.returncode == 2 and '--nonsense' in done.stderr
               and done.stderr.startswith(f'{self.name}: error: ')
               and not done.stdout, done)

    def socket_is_asked_for(self):
        done = self.run()
        expect(done.returncode == 2
               and 'give --socket-path or --fd' in done.stderr, done)

    def update(self):
        text = self.readme.read_text(encoding='utf-8')
        start = text.index(BEGIN) + len(BEGIN)
        self.readme.write_text(
            text[:start] + '\n' + self.output('--print-manual=rst')
            + text[text.index(END):], encoding='utf-8')


TESTS = [value for name, value in vars(Daemon).items()
         if callable(value) and name.islower() and '__' not in name
         and name not in ('run', 'output', 'options', 'update')]


def main():
    if sys.argv[1:2] == ['--update']:
        Daemon(*sys.argv[2:4]).update()
        return 0
    daemon = Daemon(*sys.argv[1:])
    failed = 0
    print(f'1..{len(TESTS)}')
    for number, test in enumerate(TESTS, 1):
        name = test.__name__.replace('_', '-')
        word, note = 'ok', ''
        try:
            test(daemon)
        except Skip as reason:
            note = f' # SKIP {reason}'
        except (Failure, ValueError, KeyError, OSError,
                subprocess.TimeoutExpired) as error:
            word = 'not ok'
            failed += 1
            print('# ' + repr(error).replace('\n', '\n# '))
        print(f'{word} {number} /conventions/{daemon.name}/{name}{note}',
              flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
