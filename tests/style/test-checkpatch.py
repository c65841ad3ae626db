#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each rule of scripts/checkpatch finds what it is for, and no more.

FIXTURES holds, for every rule, files it must complain about (with the line
of each complaint) and files it must leave alone. A rule without a fixture
fails. Prints TAP.
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'scripts'))

# pylint: disable=wrong-import-position
from style import rules, tree_rules
from style.source import Tree

BSD = '/* SPDX-License-Identifier: BSD-3-Clause */\n'
GPL = '/* SPDX-License-Identifier: GPL-2.0-or-later */\n'
VHU = 'subprojects/libvhu/vhu/'
FORBIDDEN_WORD = 'mas' + 'ter'
UNFINISHED_WORD = 'TO' + 'DO'


def function(lines, name='f'):
    return f'void {name}(void)\n{{\n' + '    g();\n' * (lines - 3) + '}\n'


def guarded(name, body=''):
    return f'#ifndef {name}\n#define {name}\n{body}#endif\n'


# rule: (files with faults, lines of the errors, files without)
FIXTURES = {
    'file-size': (
        {'a.c': 'x\n' * 701, 'b.py': 'x\n' * 702}, [701, 702],
        {'a.c': 'x\n' * 700, 'a.rst': 'x\n' * 900}),
    'function-size': (
        {'a.c': function(3) + '\n' + function(101, 'g')}, [5],
        {'a.c': function(100) + 'struct s {\n' + 'int a;\n' * 200 + '};\n'
                'void h(void)\n{\n}\n'}),
    'parameters': (
        {'a.h': 'int f(int a, int b, int c, int d, int e, int g);\n'
                'typedef int (*F)(int a, int b, int c, int d, int e, int g);\n'
                'struct s {\n'
                '    int (*op)(int a, int b, int c, int d, int e, int g);\n'
                '};\n'
                '__attribute__((format(printf, 1, 2)))\n'
                'int h(int a, void (*b)(int c, int d), int e, int g, int i,\n'
                '      int j);\n'},
        [1, 2, 4, 6],
        {'a.h': 'int f(int a, void (*b)(int c, int d), int e, int g, int h,\n'
                '      ...) __attribute__((format(printf, 5, 6)));\n'
                'int x __attribute__((aligned(8)));\n',
         'a.c': 'void f(void)\n{\n    g(1, 2, 3, 4, 5, 6, 7);\n}\n'
                'static const int t[] = {F(1, 2, 3, 4, 5, 6)};\n'}),
    'nesting': (
        {'a.c': 'int f(void)\n{\n'
                '    if (a) {\n        for (;;) {\n            while (b) {\n'
                '                switch (c) {\n                }\n'
                '            }\n        }\n    }\n}\n'}, [6],
        {'a.c': 'int f(void)\n{\n'
                '    if (a) {\n        for (;;) {\n            while (b) {\n'
                '                x = (S){1, {2}};\n'
                '                s = "{ if (a) {";\n            }\n        }\n'
                '    } else if (z(1)) {\n        do {\n'
                '            if (y) {\n            }\n'
                '        } while (0);\n    }\n}\n'}),
    'braces': (
        {'a.c': 'void f(void)\n{\n    if (a)\n        b();\n'
                '    for (;;)\n        c();\n    if (d) {\n    } else\n'
                '        e();\n    while (g(1))\n        ;\n}\n'},
        [3, 5, 8, 10],
        {'a.c': '#if A\n#else\n#endif\nvoid f(void)\n{\n    if (a(b)) {\n'
                '    } else if (c) {\n    } else {\n    }\n    do {\n'
                '    } while (x);\n}\n/* if (a) b(); */\n'}),
    'forbidden-calls': (
        {'hw/a.c': 'void f(void)\n{\n    strcpy(a, b);\n    sleep(1);\n}\n',
         VHU + 'a.c': 'void f(void)\n{\n    abort();\n    assert (x);\n}\n',
         'contrib/a/a.c': 'void f(void)\n{\n    exit(1);\n}\n'},
        [3, 3, 4, 3, 4],
        {'tests/a.c': 'void f(void)\n{\n    abort();\n    exit(1);\n'
                      '    my_strcpy(a, b);\n    ops->system(x);\n'
                      '    s = "strcpy(a)";\n}\n/* sleep(1) */\n'}),
    'glib-in-library': (
        {VHU + 'a.c': '#include <errno.h>\n#include <glib.h>\n'}, [2],
        {'subprojects/libvhu/tests/a.c': '#include <glib.h>\n',
         VHU + 'a.c': '/* #include <glib.h> */\n'}),
    'comment-style': (
        {'a.c': 'int a; // one\n#if 0\nint b;\n#endif\n'}, [1, 2],
        {'a.c': 'const char *a = "http://x"; /* // */\n#if A > 0\n#endif\n'}),
    'whitespace': (
        {'a.c': '\tint a;\nint b; \nint c;', 'b.rst': 'a \n'}, [1, 2, 3, 1],
        {'a.c': 'int a;\n\nint b;\n', 'COPYING': '\tText \n'}),
    'spdx': (
        {'a.c': BSD, VHU + 'a.c': GPL, 'x.py': '\n', 'meson.build': 'x\n',
         'scripts/run': '#!/bin/sh\n:\n', 'docs/a.rst': 'Title\n'},
        [1] * 6,
        {'a.c': GPL, VHU + 'a.h': BSD, 'a.json': '{}\n',
         'docs/a.rst': '.. SPDX-License-Identifier: GPL-2.0-or-later\n',
         'scripts/run': '#!/bin/sh\n'
                        '# SPDX-License-Identifier: GPL-2.0-or-later\n'}),
    'opening-comment': (
        {'a.c': GPL + '#include <errno.h>\n'}, [2],
        {'a.c': GPL + '/*\n * Owns a. Knows nothing of b.\n */\n',
         'a.h': GPL}),
    'words': (
        {'a.rst': f'The {FORBIDDEN_WORD}.\n\n{UNFINISHED_WORD}: more\n'},
        [1, 3],
        {'a.rst': f'The front end.\n{UNFINISHED_WORD}: wait for kernel 6.12\n',
         'COPYING': FORBIDDEN_WORD + '\n'}),
    'guards': (
        {'a.h': 'int a;\n', 'b.h': guarded('A_H'),
         'c.h': guarded('X_C_H'), 'x/c.h': guarded('X_C_H')}, [1, 1, 1],
        {'a/one-two.h': BSD + '/* text */\n' + guarded('A_ONE_TWO_H'),
         'b/one-two.h': guarded('B_ONE_TWO_H')}),
    'own-header-first': (
        {'hw/a.c': '#include <errno.h>\n#include "hw/a.h"\n', 'hw/a.h': ''},
        [1],
        {'hw/a.c': '#include "hw/a.h"\n#include <errno.h>\n', 'hw/a.h': '',
         VHU + 'b.c': '#include "vhu/b.h"\n', VHU + 'b.h': '',
         'hw/c.c': '#include <errno.h>\n'}),
    'include-paths': (
        {'hw/a.c': '#include "a.h"\n#include "../hw/a.h"\n', 'hw/a.h': ''},
        [1, 2],
        {'hw/a.c': '#include "hw/a.h"\n#include "vhu/b.h"\n#include <x.h>\n',
         'hw/a.h': '', VHU + 'b.h': ''}),
    'include-directions': (
        {'system/a.c': '#include "hw/pci/p.h"\n#include "hw/core/c.h"\n',
         'system/util/u.c': '#include "system/s.h"\n',
         'contrib/x/x.c': '#include "hw/core/c.h"\n#include "contrib/y/y.h"\n',
         VHU + 'a.c': '#include "contrib/y/y.h"\n#include "system/s.h"\n',
         'hw/pci/p.h': '', 'hw/core/c.h': '', 'system/s.h': '',
         'contrib/y/y.h': ''},
        [1, 2, 1, 2, 1, 1],
        {'hw/pci/p.c': '#include "hw/core/c.h"\n#include "system/s.h"\n'
                       '#include "vhu/v.h"\n',
         'system/a.c': '#include "hw/core/c.h"\n#include "system/util/u.h"\n',
         'contrib/x/x.c': '#include "contrib/daemon/d.h"\n'
                          '#include "vhu/v.h"\n#include "contrib/x/x.h"\n',
         'tests/unit/t.c': '#include "hw/core/c.h"\n#include "vhu/v.h"\n'
                           '#include "contrib/x/x.h"\n',
         'hw/core/c.h': '', 'system/s.h': '', 'system/util/u.h': '',
         'contrib/daemon/d.h': '', 'contrib/x/x.h': '', VHU + 'v.h': ''}),
    'internal-headers': (
        {'tests/unit/t.c': '#include "hw/pci/p-internal.h"\n',
         'hw/pci/p-internal.h': ''}, [1],
        {'hw/pci/p.c': '#include "hw/pci/p-internal.h"\n',
         'hw/pci/p-internal.h': ''}),
    'library-layers': (
        {VHU + 'meson.build': "files(\n  'low.c',\n  'high.c',\n)\n",
         VHU + 'low.c': '#include "vhu/low.h"\n#include "vhu/high.h"\n',
         VHU + 'low.h': '', VHU + 'high.h': ''}, [2],
        {VHU + 'meson.build': "files(\n  'low.c',\n  'high.c',\n)\n",
         VHU + 'high.c': '#include "vhu/high.h"\n#include "vhu/low.h"\n',
         VHU + 'low.h': '#include "vhu/compat.h"\n', VHU + 'high.h': '',
         VHU + 'compat.h': ''}),
    'api-comments': (
        {VHU + 'a.h': '/* Does a. */\nVHU_API int a(int x);\n'
                      '/**\n * Does b.\n * @y: a number\n */\n'
                      'VHU_API int b(int x);\n',
         'hw/core/c.h': 'int c(void);\n',
         'hw/pci/p.c': '#include "hw/core/c.h"\n'},
        [1, 2, 7],
        {VHU + 'a.h': '/**\n * Does a.\n * @x: a number\n */\n'
                      'VHU_API int a(int x);\nint internal(void);\n'
                      '/** Does b. @fds: them */\nVHU_API int b(int fds[2]);\n',
         'hw/core/c.h': '/** Does c. */\nint c(void);\n'
                        'typedef struct C {\n    int (*op)(int a);\n} C;\n',
         'hw/core/own.h': 'int own(void);\n',
         'hw/pci/p.c': '#include "hw/core/c.h"\n',
         'tests/unit/t.c': '#include "hw/core/own.h"\n'}),
    'exported-headers': (
        {VHU + 'meson.build': "files('a.c')\n",
         VHU + 'a.h': 'VHU_API int a(void);\n'}, [1],
        {VHU + 'meson.build': "files('a.c')\nvhu_headers = files('a.h')\n",
         VHU + 'a.h': 'VHU_API int a(void);\n', VHU + 'b.h': 'int b(void);\n'}),
    'links': (
        {'README.md': 'See [a](docs/a.rst)\nand [b](b).\n', 'docs/b.rst': ''},
        [1, 2],
        {'README.md': '[a](docs/a.rst#top) [b](docs) [c](https://c.org/d)\n',
         'docs/a.rst': '', 'docs/n.md': '[a](a.rst), [r](../README.md)\n'}),
    'header-alone': (
        {'hw/a.h': 'uint32_t a(void);\n', 'hw/b.h': '#include "hw/a.h"\n'},
        [1, 1],
        {'hw/a.h': '#include <stdint.h>\nuint32_t a(void);\n',
         'hw/b.h': '#include "hw/a.h"\n', VHU + 'c.h': '#include "vhu/d.h"\n',
         VHU + 'd.h': ''}),
    'clang-format': (
        {'a.c': 'int a;\nint  b;\n'}, [2],
        {'a.c': 'int a;\nint b;\n'}),
}


def errors_of(rule, files):
    """Lines of the errors a rule finds, sorted by file."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            full = pathlib.Path(folder) / path
            full.parent.mkdir(parents=True, exist_ok=True)
            full.write_text(text, 'utf-8')
        return [f.line for f in sorted(rule.check(Tree(folder, files)))
                if not f.warn]


def lines_wanted(files, lines):
    """FIXTURES gives lines in the order of its files; findings come sorted."""
    return sorted(lines) if len(files) > 1 else lines


def judge(rule):
    """None if the rule is sound, else what is wrong."""
    if rule.name not in FIXTURES:
        return 'no fixture'
    bad, lines, good = FIXTURES[rule.name]
    found = lines_wanted(bad, errors_of(rule, bad))
    if found != lines_wanted(bad, lines):
        return f'faults found on lines {found}, expected {lines}'
    found = errors_of(rule, good)
    return f'sound files blamed on lines {found}' if found else None


def main():
    every = rules.RULES + tree_rules.RULES
    failed = 0
    print(f'1..{len(every)}')
    for number, rule in enumerate(every, 1):
        try:
            wrong, skip = judge(rule), ''
        except tree_rules.Skip as reason:
            wrong, skip = None, f' # SKIP {reason}'
        if wrong:
            failed += 1
            print(f'# {wrong}')
        print(f"{'not ok' if wrong else 'ok'} {number} "
              f'/checkpatch/finds-{rule.name}{skip}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
