#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Life of a daemon's socket, from outside: who gets it, who may connect, and
what is left at the end.

Usage: test-sockets.py PROGRAM

PROGRAM is any daemon that needs no option of its own. The front end spoken
here is bytes written by hand. Prints TAP.
"""

import contextlib
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time

DEADLINE = 10

# GET_FEATURES: request 1, flags: version 1, size 0.
GET_FEATURES = bytes.fromhex('01000000 01000000 00000000')
# Its reply: request 1, flags: version 1 and reply, size 8.
FEATURES_REPLY = bytes.fromhex('01000000 05000000 08000000')
# Request 99 does not exist.
NO_REQUEST = bytes.fromhex('63000000 01000000 00000000')


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def expect(truth, what):
    if not truth:
        raise Failure(what)


class Daemon:
    """A daemon that is started, and killed if it does not end by itself."""

    def __init__(self, *arguments, **keywords):
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen(
            [PROGRAM, *arguments], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            **keywords)
        self.errors = ''

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def expect_line(self, words):
        """Wait until standard error has a line with these words."""
        limit = time.monotonic() + DEADLINE
        while words not in self.errors:
            ready = select.select([self.process.stderr], [], [],
                                  max(0, limit - time.monotonic()))[0]
            expect(ready, f'no {words!r} in {self.errors!r}')
            text = os.read(self.process.stderr.fileno(), 65536).decode()
            expect(text, f'ended without {words!r}: {self.errors!r}')
            self.errors += text

    def expect_end(self, status):
        self.errors += self.process.communicate(timeout=DEADLINE)[1]
        expect(self.process.returncode == status,
               f'status {self.process.returncode}: {self.errors!r}')

    def signal(self, number):
        self.process.send_signal(number)


def speak(end, request=GET_FEATURES):
    """Ask for the features; they must come. Returns the socket."""
    end.settimeout(DEADLINE)
    end.sendall(request)
    reply = b''
    while len(reply) < 20:
        part = end.recv(20 - len(reply))
        expect(part, f'closed after {reply!r}')
        reply += part
    expect(reply[:12] == FEATURES_REPLY, reply)
    features = struct.unpack('<Q', reply[12:])[0]
    expect(features >> 32 & 1 and features >> 30 & 1, hex(features))
    return end


def connect(path):
    end = socket.socket(socket.AF_UNIX)
    # Not settimeout: with that, a full backlog is not waited for.
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO,
                   struct.pack('ll', DEADLINE, 0))
    end.connect(str(path))
    end.settimeout(DEADLINE)
    return end


def is_live(path):
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def leave_stale(path):
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(path))
    expect(not is_live(path), 'not stale')


@contextlib.contextmanager
def serving(path, *arguments, **keywords):
    with Daemon(f'--socket-path={path}', *arguments, **keywords) as daemon:
        daemon.expect_line('listening on')
        yield daemon


# ---- the tests: each gets a folder of its own ----

def test_next_connection_is_served(folder):
    with serving(folder / 's') as daemon:
        for _ in range(3):
            speak(connect(folder / 's')).close()
        daemon.signal(signal.SIGTERM)
        daemon.expect_end(0)


def test_several_connections_are_served_at_once(folder):
    with serving(folder / 's'):
        ends = [connect(folder / 's') for _ in range(8)]
        for _ in range(2):
            for end in ends:
                speak(end)
        for end in ends:
            end.close()


def test_broken_peer_does_not_disturb_another(folder):
    with serving(folder / 's') as daemon:
        good = speak(connect(folder / 's'))
        bad = connect(folder / 's')
        bad.sendall(NO_REQUEST)
        expect(bad.recv(1) == b'', 'not closed')
        daemon.expect_line('connection 2')
        speak(good).close()
        bad.close()


def test_stale_socket_is_replaced(folder):
    leave_stale(folder / 's')
    with serving(folder / 's'):
        speak(connect(folder / 's')).close()


def test_socket_of_a_killed_daemon_is_replaced(folder):
    with serving(folder / 's') as daemon:
        daemon.signal(signal.SIGKILL)
        daemon.expect_end(-signal.SIGKILL)
    expect((folder / 's').exists(), 'there is nothing to replace')
    with serving(folder / 's'):
        speak(connect(folder / 's')).close()


def test_live_socket_is_refused(folder):
    with serving(folder / 's', '--once') as first:
        with Daemon(f'--socket-path={folder}/s') as second:
            second.expect_end(1)
        expect(f'--socket-path={folder}/s: in use' in second.errors,
               second.errors)
        # Having been looked at was no connection.
        speak(connect(folder / 's')).close()
        first.expect_end(0)


def test_file_that_is_no_socket_is_left_alone(folder):
    (folder / 's').write_text('precious', encoding='ascii')
    with Daemon(f'--socket-path={folder}/s') as daemon:
        daemon.expect_end(1)
    expect('is not a socket' in daemon.errors, daemon.errors)
    expect((folder / 's').read_text(encoding='ascii') == 'precious', 'gone')


def test_mode_is_set(folder):
    with serving(folder / 's', '--socket-mode=0602'):
        mode = stat.S_IMODE((folder / 's').stat().st_mode)
        expect(mode == 0o602, oct(mode))


def test_group_is_set(folder):
    if os.geteuid() != 0:
        raise Skip('only root may give a file to any group')
    with serving(folder / 's', '--socket-group=54321'):
        found = (folder / 's').stat()
        expect(found.st_gid == 54321, found.st_gid)
        expect(stat.S_IMODE(found.st_mode) == 0o660, oct(found.st_mode))


def test_unknown_group_is_refused_before_listening(folder):
    with Daemon(f'--socket-path={folder}/s', '--socket-group=nobody-knows',
                ) as daemon:
        daemon.expect_end(1)
    expect('--socket-group=nobody-knows: there is no such group'
           in daemon.errors, daemon.errors)
    expect(not (folder / 's').exists(), 'left behind')


def test_socket_options_are_checked(folder):
    cases = (
        (('--socket-path=x', '--fd=3'), 'exclude each other'),
        (('--fd=3', '--socket-mode=600'), '--socket-mode=0600: needs'),
        (('--fd=3', '--socket-group=x'), '--socket-group=x: needs'),
        (('--socket-path=x', '--socket-mode=9'), '--socket-mode=9: not an'),
        (('--socket-path=x', '--log-level=loud'), 'must be one of error, '),
        (('--socket-path=',), '--socket-path=: must not be empty'),
        (('--fd=-1',), '--fd=-1: not a number'),
    )
    for arguments, words in cases:
        with Daemon(*arguments, cwd=folder) as daemon:
            daemon.expect_end(2)
        expect(words in daemon.errors, f'{words!r}: {daemon.errors!r}')


def test_wrong_fd_is_refused(folder):
    del folder
    with open('/dev/null', 'rb') as null:
        fd = null.fileno()
        with Daemon(f'--fd={fd}', pass_fds=[fd]) as daemon:
            daemon.expect_end(1)
    expect(f'--fd={fd}: not a Unix stream socket' in daemon.errors,
           daemon.errors)
    with Daemon('--fd=77') as daemon:
        daemon.expect_end(1)
    expect('--fd=77: no such file descriptor' in daemon.errors, daemon.errors)


def test_connected_fd_is_served_until_it_closes(folder):
    del folder
    ours, theirs = socket.socketpair()
    with Daemon(f'--fd={theirs.fileno()}', pass_fds=[theirs.fileno()]) as daemon:
        theirs.close()
        speak(speak(ours)).close()
        daemon.expect_end(0)


def test_listening_fd_is_served_again_and_again(folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / 's'))
        listener.listen()
        fd = listener.fileno()
        with Daemon(f'--fd={fd}', pass_fds=[fd]) as daemon:
            listener.close()
            for _ in range(3):
                speak(connect(folder / 's')).close()
            daemon.signal(signal.SIGTERM)
            daemon.expect_end(0)
    expect((folder / 's').exists(), 'removed what is not ours')


@contextlib.contextmanager
def activated(folder, number, *arguments):
    """Start as systemd does: LISTEN_PID is the daemon's own."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / 's'))
        listener.listen()

        def place():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)
            os.environ['LISTEN_PID'] = str(os.getpid())
            os.environ['LISTEN_FDS'] = number
            os.execv(PROGRAM, [PROGRAM, *arguments])

        # execv in the child, so that the environment is the child's.
        with Daemon(*arguments, preexec_fn=place, close_fds=False) as daemon:
            yield daemon


def test_socket_from_systemd_is_served(folder):
    with activated(folder, '1') as daemon:
        for _ in range(3):
            speak(connect(folder / 's')).close()
        daemon.signal(signal.SIGTERM)
        daemon.expect_end(0)
    expect((folder / 's').exists(), 'removed what is not ours')


def test_socket_from_systemd_excludes_others(folder):
    with activated(folder, '1', '--socket-path=x') as daemon:
        daemon.expect_end(2)
    expect('LISTEN_FDS' in daemon.errors, daemon.errors)
    (folder / 's').unlink()
    with activated(folder, '2') as daemon:
        daemon.expect_end(2)
    expect('LISTEN_FDS=2: one socket' in daemon.errors, daemon.errors)


def test_once_ends_with_the_first_connection(folder):
    with serving(folder / 's', '--once') as daemon:
        connect(folder / 's').close()
        front_end = speak(connect(folder / 's'))
        expect(not is_live(folder / 's'), 'still listening')
        speak(front_end).close()
        daemon.expect_end(0)
    expect(not (folder / 's').exists(), 'left behind')


def test_once_tells_of_an_error(folder):
    with serving(folder / 's', '--once') as daemon:
        with connect(folder / 's') as bad:
            bad.sendall(NO_REQUEST)
            daemon.expect_end(1)
    expect(not (folder / 's').exists(), 'left behind')


def test_signals_end_it_clean(folder):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with serving(folder / 's') as daemon:
            with connect(folder / 's') as silent:
                with speak(connect(folder / 's')) as busy:
                    daemon.signal(number)
                    daemon.expect_end(0)
                    expect(busy.recv(1) == b'', 'not closed')
                expect(silent.recv(1) == b'', 'not closed')
        expect(not (folder / 's').exists(), 'left behind')


def test_blocked_signal_ends_it(folder):
    with serving(folder / 's', preexec_fn=lambda: signal.pthread_sigmask(
            signal.SIG_BLOCK, {signal.SIGTERM})) as daemon:
        daemon.signal(signal.SIGTERM)
        daemon.expect_end(0)


def test_ignored_hangup_stays_ignored(folder):
    with serving(folder / 's', preexec_fn=lambda: signal.signal(
            signal.SIGHUP, signal.SIG_IGN)) as daemon:
        daemon.signal(signal.SIGHUP)
        speak(connect(folder / 's')).close()
        daemon.signal(signal.SIGTERM)
        daemon.expect_end(0)


def test_socket_of_a_successor_is_not_removed(folder):
    with serving(folder / 's') as first:
        (folder / 's').unlink()
        with serving(folder / 's'):
            first.signal(signal.SIGTERM)
            first.expect_end(0)
            speak(connect(folder / 's')).close()


def test_closed_log_does_not_end_it(folder):
    with Daemon(f'--socket-path={folder}/s', '--log-level=trace') as daemon:
        daemon.expect_line('listening on')
        daemon.process.stderr.close()
        speak(connect(folder / 's')).close()
        speak(connect(folder / 's')).close()
        daemon.signal(signal.SIGTERM)
        expect(daemon.process.wait(DEADLINE) == 0, daemon.process.returncode)


def test_trace_shows_messages_decoded(folder):
    with serving(folder / 's', '--log-level=trace') as daemon:
        speak(connect(folder / 's')).close()
        daemon.expect_line('trace: received GET_FEATURES')
        daemon.expect_line('trace: sent GET_FEATURES')


def test_silent_callers_shut_nobody_out(folder):
    with serving(folder / 's', preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_NOFILE, (100, 200))) as daemon:
        limits = pathlib.Path(f'/proc/{daemon.process.pid}/limits').read_text(
            encoding='ascii')
        expect(re.search(r'^Max open files +200 +200 ', limits, re.M), limits)
        silent = [connect(folder / 's') for _ in range(250)]
        speak(connect(folder / 's')).close()
        for end in silent:
            end.close()


def test_a_thousand_connections_leave_no_fd(folder):
    with serving(folder / 's') as daemon:
        fds = pathlib.Path(f'/proc/{daemon.process.pid}/fd')
        speak(connect(folder / 's')).close()
        counts = []
        for number in range(1000):
            end = speak(connect(folder / 's'))
            if number in (0, 999):
                counts.append(len(list(fds.iterdir())))
            end.close()
        # An earlier connection may just be being closed.
        expect(counts[1] <= counts[0] + 2, counts)


TESTS = {name[5:].replace('_', '-'): value
         for name, value in list(globals().items())
         if name.startswith('test_')}
PROGRAM = None


def run(test):
    """(word, note) of a TAP line."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix='sockets-'))
    try:
        test(folder)
    except Skip as reason:
        return 'ok', f' # SKIP {reason}'
    except (Failure, OSError, subprocess.TimeoutExpired) as error:
        print('# ' + re.sub('\n', '\n# ', repr(error)))
        return 'not ok', ''
    finally:
        shutil.rmtree(folder)
    return 'ok', ''


def main():
    global PROGRAM  # pylint: disable=global-statement
    PROGRAM = os.path.abspath(sys.argv[1])
    # Whoever started us may ignore it, and that is inherited.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    failed = 0
    print(f'1..{len(TESTS)}')
    for number, (name, test) in enumerate(TESTS.items(), 1):
        word, note = run(test)
        failed += word != 'ok'
        print(f'{word} {number} /daemon/sockets/{name}{note}', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
