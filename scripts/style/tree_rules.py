# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules of the house style that need several files, or a tool.

A rule whose tool is not installed raises Skip with the reason.
"""

import concurrent.futures
import posixpath
import re
import shutil
import subprocess

from .rules import LIBRARY, LIBRARY_CODE, Finding, Rule

EXPORTED = re.compile(r'\bVHU_API\b')
TAG = re.compile(r'^[ \t]*\*?[ \t]*@(\w+):', re.M)
LINK = re.compile(r'\]\((?!\w+:)([^)#\s]+)')
DIAGNOSTIC = re.compile(r'^(?:\./)?([^\s:]+):(\d+):\d+: (?:fatal )?error: (.*)')

# Who may include whom. The longest prefix of a file's path names its folder;
# a file may always include from its own folder.
MAY_INCLUDE = {
    'subprojects/libvhu/vhu/': (),
    'subprojects/libvhu/': ('subprojects/libvhu/',),
    'system/util/': (),
    'system/': ('system/', 'hw/core/'),
    'hw/': ('hw/', 'system/', 'subprojects/libvhu/vhu/'),
    'contrib/': ('contrib/daemon/', 'subprojects/libvhu/vhu/'),
    'docs/': ('contrib/', 'subprojects/libvhu/vhu/'),
    'tests/': ('',),
}

# Packages whose headers ours include: compiler flags come from pkg-config.
PACKAGES = {
    'glib': 'glib-2.0',
    'gio': 'gio-2.0',
    'json-glib': 'json-glib-1.0',
    'liburing': 'liburing',
}


class Skip(Exception):
    """The rule cannot be judged here; says why."""


def is_test(path):
    return path.startswith('tests/') or '/tests/' in path


def own_header_first(tree):
    for source in tree.c_files():
        own = source.path[:-1] + 'h'
        if not source.path.endswith('.c') or own not in tree.files:
            continue
        first = source.includes[:1]
        if not first or tree.resolve(first[0]) is not tree.files[own]:
            yield Finding(source.path, first[0].line if first else 1,
                          f'includes {own} not first')


def include_paths(tree):
    for source in tree.c_files():
        for include in source.includes:
            if include.quoted and not tree.resolve(include):
                yield Finding(source.path, include.line, f'"{include.name}" '
                              'is not a file from the root of the sources')


def allowed(source, target):
    folder = source.folder + '/'
    if target.folder == source.folder:
        return True
    prefixes = [p for p in MAY_INCLUDE if folder.startswith(p)]
    if not prefixes:
        return False
    return target.path.startswith(MAY_INCLUDE[max(prefixes, key=len)])


def include_directions(tree):
    for source in tree.c_files():
        for include in source.includes:
            target = tree.resolve(include)
            if target and not allowed(source, target):
                yield Finding(source.path, include.line, f'{source.folder} '
                              f'may not include {target.path}')


def internal_headers(tree):
    for source in tree.c_files():
        for include in source.includes:
            target = tree.resolve(include)
            if (target and target.name.endswith('-internal.h')
                    and target.folder != source.folder):
                yield Finding(source.path, include.line,
                              f'{target.path} is internal to its folder')


def library_layers(tree):
    """Files of the library include only what stands before them in the list
    of vhu/meson.build; a header without a .c has no place and may go anywhere.
    """
    build = tree.files.get(LIBRARY_CODE + 'meson.build')
    listed = re.findall(r"'([\w-]+)\.c'", build.text if build else '')
    rank = {name: at for at, name in enumerate(listed)}
    for source in tree.c_files():
        own = rank.get(source.name[:-2])
        if source.folder + '/' != LIBRARY_CODE or own is None:
            continue
        for include in source.includes:
            target = tree.resolve(include)
            other = rank.get(target.name[:-2]) if target else None
            if other is not None and other > own:
                yield Finding(source.path, include.line, f'{target.name} is '
                              'of a layer above: see vhu/meson.build')


def documented_headers(tree):
    """Headers that a folder other than their own, not of tests, includes."""
    found = set()
    for source in tree.c_files():
        for include in source.includes:
            target = tree.resolve(include)
            if (target and target.folder != source.folder
                    and not is_test(source.path)):
                found.add(target.path)
    return found


def api_comments(tree):
    shared = documented_headers(tree)
    for source in tree.headers():
        for function in source.functions:
            head = source.text[function.head_at:function.body_at]
            if source.path not in shared and not EXPORTED.search(head):
                continue
            comment = source.comment_above(function.head_at)
            if not comment.startswith('/**'):
                yield Finding(source.path, function.line,
                              f'{function.name} has no /** comment')
            names = {re.sub(r'\W*(\[.*)?$', '', p).split()[-1].lstrip('*')
                     for p in function.params if re.search(r'\w', p)}
            for tag in TAG.findall(comment):
                if tag not in names:
                    yield Finding(source.path, function.line, f'{function.name}'
                                  f' documents @{tag}, which it does not take')


def exported_headers(tree):
    """A header with an exported function must be installed."""
    build = tree.files.get(LIBRARY_CODE + 'meson.build')
    listed = re.findall(r"'([\w-]+\.h)'", build.text if build else '')
    for source in tree.headers():
        exports = any(EXPORTED.search(source.text[f.head_at:f.body_at])
                      for f in source.functions)
        if exports and source.name not in listed:
            yield Finding(source.path, 1, 'exports functions, but is not in '
                          'the list of headers in vhu/meson.build')


def compiler_flags(tree):
    """Flags of the packages that are used, and the packages that lack."""
    flags, missing = [], set()
    used = {package for source in tree.c_files()
            for include in source.includes for word, package in PACKAGES.items()
            if re.match(word + r'\b', include.name)}
    for package in sorted(used):
        asked = subprocess.run(['pkg-config', '--cflags', package],
                               capture_output=True, text=True, check=False)
        if asked.returncode:
            missing.add(package)
        flags += asked.stdout.split()
    return flags, missing


def header_alone(tree):
    compiler = shutil.which('gcc') or shutil.which('cc')
    if not compiler or not shutil.which('pkg-config'):
        raise Skip('needs gcc and pkg-config')
    flags, missing = compiler_flags(tree)
    if missing:
        raise Skip('not installed: ' + ', '.join(sorted(missing)))
    command = [compiler, '-fsyntax-only', '-std=gnu11', '-D_GNU_SOURCE',
               '-Wall', '-Wextra', '-Werror', '-I.', '-I' + LIBRARY, *flags,
               '-x', 'c', '-', '-include']

    def compile_one(source):
        return source, subprocess.run(
            command + [source.path], cwd=tree.root, input='', text=True,
            capture_output=True, check=False)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for source, done in pool.map(compile_one, tree.headers()):
            if done.returncode:
                errors = [line for line in done.stderr.split('\n')
                          if 'error' in line]
                yield Finding(source.path, 1, 'does not compile alone: '
                              + (errors or ['?'])[0])


def clang_format(tree):
    tool = shutil.which('clang-format-14') or shutil.which('clang-format')
    if not tool:
        raise Skip('clang-format is not installed')
    version = subprocess.run([tool, '--version'], capture_output=True,
                             text=True, check=False).stdout
    if 'version 14.' not in version:
        raise Skip(f'needs clang-format 14, found: {version.strip()}')
    paths = [source.path for source in tree.c_files()]
    if not paths:
        return
    done = subprocess.run([tool, '--dry-run', '-Werror', *paths],
                          cwd=tree.root, capture_output=True, text=True,
                          check=False)
    for line in done.stderr.split('\n'):
        found = DIAGNOSTIC.match(line)
        if found:
            yield Finding(found.group(1), int(found.group(2)),
                          'not as clang-format writes it (ninja format)')


def links(tree):
    """What a Markdown file links to is in the tree (Sphinx sees to the rest).
    """
    for source in tree:
        if not source.path.endswith('.md'):
            continue
        for found in LINK.finditer(source.text):
            target = posixpath.normpath(
                posixpath.join(source.folder, found.group(1)))
            if not any(path == target or path.startswith(target + '/')
                       for path in tree.files):
                yield Finding(source.path, source.line_at(found.start()),
                              f'{found.group(1)} is not in the tree')


RULES = (
    Rule('own-header-first', 'a .c includes its own header first',
         own_header_first),
    Rule('include-paths', 'includes start at the root of the sources',
         include_paths),
    Rule('include-directions', 'folders include only whom they may',
         include_directions),
    Rule('internal-headers', '*-internal.h stays in its folder',
         internal_headers),
    Rule('library-layers', 'the library includes downwards only',
         library_layers),
    Rule('api-comments', 'shared prototypes are documented', api_comments),
    Rule('exported-headers', 'what is exported is installed',
         exported_headers),
    Rule('links', 'what README.md links to is there', links),
    Rule('header-alone', 'each header compiles alone', header_alone),
    Rule('clang-format', 'as clang-format 14 writes it', clang_format),
)
