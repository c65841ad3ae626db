# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of the house style that one file alone can break.

Each rule is a generator of findings over a Tree; the table RULES at the end
is what scripts/checkpatch walks. Rules that need several files or a tool
stand in tree_rules.py.
"""

import re
from collections import namedtuple

from . import source as src

Rule = namedtuple('Rule', 'name what check')
# A finding with warn set is shown and does not fail the rule.
Finding = namedtuple('Finding', 'path line text warn', defaults=(False,))

FILE_LINES = (500, 700)
FUNCTION_LINES = (60, 100)
PARAMETERS = 5
NESTING = 3

LIBRARY = 'subprojects/libvhu/'
LIBRARY_CODE = 'subprojects/libvhu/vhu/'

UNSAFE = 'has no bound'
BLOCKS = 'blocks its thread: wait for an event with a deadline'
ENDS = 'ends the process: return an error'
PRINTS = 'prints: the library fills a VhuError'
# call: (folders it is forbidden in, why)
FORBIDDEN = {
    'strcpy': ('', UNSAFE),
    'strcat': ('', UNSAFE),
    'stpcpy': ('', UNSAFE),
    'sprintf': ('', UNSAFE),
    'vsprintf': ('', UNSAFE),
    'gets': ('', UNSAFE),
    'alloca': ('', UNSAFE),
    'g_alloca': ('', UNSAFE),
    'system': ('', 'runs a shell'),
    'popen': ('', 'runs a shell'),
    'tmpnam': ('', 'races: use mkstemp'),
    'mktemp': ('', 'races: use mkstemp'),
    'strtok': ('', 'keeps state: use strtok_r or g_strsplit'),
    'atoi': ('', 'hides errors: use strtol and check'),
    'atol': ('', 'hides errors: use strtol and check'),
    'atoll': ('', 'hides errors: use strtoll and check'),
    'sleep': ('', BLOCKS),
    'usleep': ('', BLOCKS),
    'nanosleep': ('', BLOCKS),
    'g_usleep': ('', BLOCKS),
    'assert': ((LIBRARY_CODE, 'contrib/'), ENDS),
    'abort': ((LIBRARY_CODE, 'contrib/'), ENDS),
    'g_assert': ('contrib/', ENDS),
    'g_error': ('contrib/', ENDS),
    'exit': ((LIBRARY_CODE, 'contrib/'), ENDS),
    '_exit': ((LIBRARY_CODE, 'contrib/'), ENDS),
    'printf': (LIBRARY_CODE, PRINTS),
    'fprintf': (LIBRARY_CODE, PRINTS),
    'puts': (LIBRARY_CODE, PRINTS),
    'perror': (LIBRARY_CODE, PRINTS),
}
# (file, call): what the file is there for.
PERMITTED = {('contrib/daemon/signals.c', '_exit')}
CALL = re.compile(r'(?<![\w.>])(%s)\s*\(' % '|'.join(FORBIDDEN))

# Not ours to edit, or data.
FOREIGN = re.compile(r'(^|/)(COPYING|LICENSE)$')
# Spelt so that this file does not hold them.
WORDS = re.compile(r'\w*(?:m[a]ster|sl[a]ve|white[l]ist|black[l]ist)\w*', re.I)
UNFINISHED = re.compile(r'\b(?:F[I]XME|X[X]X|H[A]CK|T[O]DO(?!: \w+ \w+ \w+))\b')

COMMENT_STYLES = (
    (re.compile(r'\.(c|h)$'), '/* {} */'),
    (re.compile(r'\.rst$'), '.. {}'),
    (re.compile(r'(\.(py|sh|yml|yaml)|(^|/)(meson\.build|meson_options\.txt))$'),
     '# {}'),
)
CONTROL = re.compile(r'\b(if|for|while|switch|else|do)\b')
LOOP_MACRO = re.compile(r'\b\w*(?:FOREACH|foreach|for_each)\w*\s*$')


def file_size(tree):
    aim, limit = FILE_LINES
    for source in tree:
        lines = len(source.lines)
        code = source.is_c or source.path.endswith(('.py', '.build'))
        if code and lines > aim:
            yield Finding(source.path, lines, f'{lines} lines, aim at {aim}',
                          lines <= limit)


def function_size(tree):
    aim, limit = FUNCTION_LINES
    for source in tree.c_files():
        for function in source.functions:
            lines = function.end - function.line + 1
            if function.body and lines > aim:
                yield Finding(source.path, function.line,
                              f'{function.name} has {lines} lines, aim at '
                              f'{aim}', lines <= limit)


def parameters(tree):
    for source in tree.c_files():
        heads = [(f.line, f.name, f.params) for f in source.functions]
        for line, name, params in heads + list(source.function_pointers):
            if len(params) > PARAMETERS:
                yield Finding(source.path, line, f'{name} takes {len(params)} '
                              f'parameters, at most {PARAMETERS}')


def is_control(code, at):
    """Whether the brace at code[at] opens the body of if, for, while ..."""
    before = code[:at].rstrip()
    if re.search(r'\b(else|do)$', before):
        return True
    if not before.endswith(')'):
        return False
    depth = 0
    for index in range(len(before) - 1, -1, -1):
        depth += {')': 1, '(': -1}.get(before[index], 0)
        if depth == 0:
            word = before[:index].rstrip()
            return bool(re.search(r'\b(if|for|while|switch)$', word) or
                        LOOP_MACRO.search(word))
    return False


def nesting(tree):
    for source in tree.c_files():
        for function in source.functions:
            stack = []
            for found in re.finditer(r'[{}]', (function.body or '')[1:]):
                at = found.start() + 1
                if found.group() == '}':
                    del stack[-1:]
                    continue
                stack.append(is_control(function.body, at))
                if stack[-1] and sum(stack) > NESTING:
                    yield Finding(source.path,
                                  source.line_at(function.body_at + at),
                                  f'{function.name} nests {sum(stack)} deep, '
                                  f'at most {NESTING}')


def after_control(code, found):
    """What follows the keyword and its parentheses."""
    end = found.end()
    if found.group(1) not in ('else', 'do'):
        opened = code.find('(', end)
        if opened < 0 or code[end:opened].strip():
            return '{'
        end = src.matching(code, opened) + 1
    return code[end:].lstrip()


def braces(tree):
    for source in tree.c_files():
        code = source.statements
        for found in CONTROL.finditer(code):
            word, rest = found.group(1), after_control(code, found)
            if rest.startswith('{'):
                continue
            if word == 'else' and re.match(r'if\b', rest):
                continue
            if word == 'while' and code[:found.start()].rstrip().endswith('}'):
                continue
            yield Finding(source.path, source.line_at(found.start()),
                          f'{word} without braces')


def forbidden_calls(tree):
    for source in tree.c_files():
        for found in CALL.finditer(source.code):
            folders, why = FORBIDDEN[found.group(1)]
            if (source.path.startswith(folders)
                    and (source.path, found.group(1)) not in PERMITTED):
                yield Finding(source.path, source.line_at(found.start()),
                              f'{found.group(1)}: {why}')


def glib_in_library(tree):
    for source in tree.c_files():
        for include in source.includes:
            if source.path.startswith(LIBRARY_CODE) and re.match(
                    r'(glib|gio|gmodule)', include.name):
                yield Finding(source.path, include.line,
                              f'the library does without {include.name}')


def comment_style(tree):
    for source in tree.c_files():
        for found in src.TOKEN.finditer(source.text):
            if found.group().startswith('//'):
                yield Finding(source.path, source.line_at(found.start()),
                              '// comment: use /* */')
        for found in re.finditer(r'^\s*#\s*if\s+0\b', source.code, re.M):
            yield Finding(source.path, source.line_at(found.start()),
                          '#if 0: delete the code')


def whitespace(tree):
    for source in tree:
        if FOREIGN.search(source.path):
            continue
        for number, line in enumerate(source.lines, 1):
            if '\t' in line:
                yield Finding(source.path, number, 'tab')
            if line != line.rstrip():
                yield Finding(source.path, number, 'blank at the end of line')
        if source.text and not source.text.endswith('\n'):
            yield Finding(source.path, len(source.lines),
                          'no newline at the end of file')


def spdx(tree):
    for source in tree:
        licence = ('BSD-3-Clause' if source.path.startswith(LIBRARY)
                   else 'GPL-2.0-or-later')
        style = next((style for pattern, style in COMMENT_STYLES
                      if pattern.search(source.path)), None)
        if style is None and source.text.startswith('#!'):
            style = '# {}'
        if style is None:
            continue
        want = style.format('SPDX-License-Identifier: ' + licence)
        first = [line for line in source.lines[:2]
                 if not line.startswith('#!')]
        if first[:1] != [want]:
            yield Finding(source.path, 1, f'does not open with "{want}"')


def opening_comment(tree):
    for source in tree.c_files():
        rest = '\n'.join(source.lines[1:]).lstrip()
        if source.path.endswith('.c') and not rest.startswith('/*'):
            yield Finding(source.path, 2,
                          'does not say what it owns and what it does not')


def words(tree):
    for source in tree:
        if FOREIGN.search(source.path):
            continue
        for number, line in enumerate(source.lines, 1):
            for found in WORDS.finditer(line):
                yield Finding(source.path, number, f'{found.group()}: say '
                              'front end and back end, or allow and deny')
            for found in UNFINISHED.finditer(line):
                yield Finding(source.path, number,
                              f'{found.group()} without a reason')


def guards(tree):
    seen = {}
    for source in tree.headers():
        found = re.search(r'^#ifndef (\w+)\n#define \1$', source.code, re.M)
        tail = re.sub(r'\W', '_', source.name).upper()
        if not found or not found.group(1).endswith(tail):
            yield Finding(source.path, 1, f'no include guard ...{tail}')
            continue
        first = seen.setdefault(found.group(1), source.path)
        if first != source.path:
            yield Finding(source.path, 1,
                          f'{found.group(1)} also guards {first}')


RULES = (
    Rule('file-size', 'files of at most 500 lines', file_size),
    Rule('function-size', 'functions of at most 60 lines', function_size),
    Rule('parameters', 'at most 5 parameters', parameters),
    Rule('nesting', 'at most 3 levels', nesting),
    Rule('braces', 'braces always', braces),
    Rule('forbidden-calls', 'no call that is unsafe where it stands',
         forbidden_calls),
    Rule('glib-in-library', 'the library does without GLib', glib_in_library),
    Rule('comment-style', '/* */ comments, nothing commented out',
         comment_style),
    Rule('whitespace', 'no tabs, no blanks at the end of lines', whitespace),
    Rule('spdx', 'the licence on the first line', spdx),
    Rule('opening-comment', 'each .c says what it owns', opening_comment),
    Rule('words', 'words we do not use, work left undone', words),
    Rule('guards', 'each header has its own include guard', guards),
)
