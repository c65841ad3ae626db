# SPDX-License-Identifier: GPL-2.0-or-later
"""Sphinx settings of the manual; no extension beyond Sphinx's own core."""

import os

project = 'qemu-vhost-user'
author = 'the qemu-vhost-user authors'
copyright = 'the qemu-vhost-user authors'  # pylint: disable=redefined-builtin

extensions = []
root_doc = 'index'
language = 'en'
exclude_patterns = ['meson.build']
highlight_language = 'none'
nitpicky = True

html_theme = 'alabaster'
html_show_sourcelink = False
html_theme_options = {
    'description': 'vhost-user front end, back ends and library',
    'page_width': '1000px',
}


def put_in_generated(app, _docname, source):
    """Let a page include what the build printed."""
    # To Sphinx, a path from "/" starts at the sources of the manual.
    folder = '/' + os.path.relpath(app.config.generated, app.srcdir)
    source[0] = source[0].replace('GENERATED/', folder + '/')


def setup(app):
    app.add_config_value('generated', '', 'env')
    app.connect('source-read', put_in_generated)
