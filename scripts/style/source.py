# SPDX-License-Identifier: GPL-2.0-or-later
"""Source files as the style rules see them.

Owns the reading of C: comments and strings blanked, functions, prototypes,
includes. It is no compiler: it knows the shapes that clang-format leaves.
Judges nothing.
"""

import pathlib
import re
import subprocess
from collections import namedtuple

# body is None for a prototype; line and end count from 1.
Function = namedtuple('Function', 'name params line end head_at body_at body')
Include = namedtuple('Include', 'line name quoted')

TOKEN = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\n\\]|\\.|\\\n)*', re.M | re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
NAME_AND_PAREN = re.compile(r'\b([A-Za-z_]\w*)\s*\(')
POINTER_TO_FUNCTION = re.compile(r'\(\s*\*\s*(\w+)\s*\)\s*\(')
MARK = re.compile(r'[({;]')
# What follows the closing brace of a type or of an initialiser.
AFTER_TYPE = re.compile(r'\s*[\w*]*\s*[;,\[]')
ATTRIBUTE = re.compile(r'__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)')
WORDS_WITH_PAREN = {'if', 'for', 'while', 'switch', 'return', 'sizeof',
                    '_Static_assert', 'static_assert'}


def blank(text):
    """As many characters and lines, none of them visible."""
    return re.sub(r'[^\n]', ' ', text)


def matching(text, at):
    """Where the bracket opened at text[at] closes, or the end of text."""
    pair = {'(': ')', '{': '}'}[text[at]]
    depth = 0
    for found in re.finditer(r'[%s]' % re.escape(text[at] + pair), text[at:]):
        depth += 1 if found.group() == text[at] else -1
        if depth == 0:
            return at + found.start()
    return len(text)


def split_params(text):
    """The parameters between two parentheses, without `...`."""
    params, depth, start = [], 0, 0
    for at, char in enumerate(text + ','):
        depth += {'(': 1, ')': -1}.get(char, 0)
        if char == ',' and depth == 0:
            params.append(' '.join(text[start:at].split()))
            start = at + 1
    return [p for p in params if p not in ('', 'void', '...')]


class Source:
    """One file: its path from the root of the tree, and its text."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.lines = text.split('\n')
        if self.lines[-1] == '':
            self.lines.pop()
        self._cache = {}

    @property
    def folder(self):
        return str(pathlib.PurePosixPath(self.path).parent)

    @property
    def name(self):
        return pathlib.PurePosixPath(self.path).name

    @property
    def is_c(self):
        return self.path.endswith(('.c', '.h'))

    def line_at(self, at):
        return self.text.count('\n', 0, at) + 1

    def _once(self, key, make):
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    @property
    def code(self):
        """The text with comments and the insides of strings blanked."""
        def one(found):
            token = found.group()
            if token[0] == '/':
                return blank(token)
            return token[0] + ' ' * (len(token) - 2) + token[-1]
        return self._once('code', lambda: TOKEN.sub(one, self.text))

    @property
    def statements(self):
        """The code with preprocessor lines blanked too."""
        return self._once('statements', lambda: DIRECTIVE.sub(
            lambda found: blank(found.group()), self.code))

    @property
    def includes(self):
        plain = TOKEN.sub(lambda found: blank(found.group())
                          if found.group()[0] == '/' else found.group(),
                          self.text)
        return self._once('includes', lambda: [
            Include(self.line_at(found.start(1)), found.group(2),
                    found.group(1) == '"')
            for found in INCLUDE.finditer(plain)])

    @property
    def functions(self):
        """Every function defined or declared at file level, in order."""
        return self._once('functions', lambda: list(self._functions()))

    def _functions(self):
        code, at, start = self.statements, 0, 0
        while found := MARK.search(code, at):
            at = found.start()
            if code[at] == '(':
                at = matching(code, at)
            elif code[at] == ';':
                yield from self._function(start, at, None)
                start = at + 1
            else:
                end = matching(code, at)
                yield from self._function(start, at, end)
                at = end
                if not AFTER_TYPE.match(code, end + 1):
                    start = end + 1
            at += 1

    def _function(self, start, at, end):
        whole = self.statements[start:at]
        head = ATTRIBUTE.sub(lambda found: blank(found.group()), whole)
        if re.match(r'\s*typedef\b', head) or re.search(r'[={]', head):
            return
        if end is not None and not re.search(r'\)\s*$', head):
            return
        for found in NAME_AND_PAREN.finditer(head):
            name = found.group(1)
            if name in WORDS_WITH_PAREN or name.isupper():
                continue
            opened = found.end() - 1
            params = head[opened + 1:matching(head, opened)]
            if params.lstrip().startswith('*'):
                return
            head_at = start + len(whole) - len(whole.lstrip())
            last = at if end is None else end
            yield Function(name, split_params(params), self.line_at(head_at),
                           self.line_at(last), head_at, at,
                           None if end is None
                           else self.statements[at:end + 1])
            return

    @property
    def function_pointers(self):
        """(line, name, parameters) of each named pointer to a function."""
        code = self.statements
        for found in POINTER_TO_FUNCTION.finditer(code):
            opened = found.end() - 1
            params = split_params(code[opened + 1:matching(code, opened)])
            yield self.line_at(found.start()), found.group(1), params

    def comment_above(self, at):
        """The comment that ends right above text[at], or ''."""
        before = self.text[:at].rstrip()
        if not before.endswith('*/') or self.text.count(
                '\n', len(before), at) > 1:
            return ''
        return before[before.rindex('/*'):]


class Tree:
    """All files of a tree: {path: Source}; root is where they are on disk."""

    def __init__(self, root, files):
        self.root = pathlib.Path(root)
        self.files = {path: Source(path, text)
                      for path, text in sorted(files.items())}

    @classmethod
    def read(cls, root):
        """What git knows below root and is text; without git, all of it."""
        root = pathlib.Path(root)
        listed = subprocess.run(
            ['git', '-C', str(root), 'ls-files', '-z', '--cached', '--others',
             '--exclude-standard'], capture_output=True, check=False)
        if listed.returncode == 0:
            paths = listed.stdout.decode().split('\0')
        else:
            paths = [p.relative_to(root).as_posix() for p in root.rglob('*')]
            paths = [p for p in paths if not p.startswith('build')]
        files = {}
        for path in paths:
            try:
                if path and not (root / path).is_symlink():
                    files[path] = (root / path).read_text('utf-8')
            except (UnicodeDecodeError, IsADirectoryError,
                    FileNotFoundError):
                continue
        return cls(root, files)

    def __iter__(self):
        return iter(self.files.values())

    def c_files(self):
        return [source for source in self if source.is_c]

    def headers(self):
        return [source for source in self if source.path.endswith('.h')]

    def resolve(self, include):
        """The tree's file an #include names, or None."""
        for prefix in ('', 'subprojects/libvhu/'):
            if prefix + include.name in self.files:
                return self.files[prefix + include.name]
        return None
