"""Runs a program in this process group and kills the group when a pipe ends: run by path, never imported.

    python -I -S lifeline.py FD PROGRAM ARGUMENT...

FD is the read end of a pipe whose other end only the owner holds, so that it ends when the owner ends, even by SIGKILL.
The exit status is the program's, 128 + signal where one ended it.
"""

import os
import select
import signal
import sys


def main(lifeline: int, command: list[str]) -> int:
    """Returns the program's exit status; does not return when the owner is gone."""
    os.set_inheritable(lifeline, False)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    program = os.fork()
    if program == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGPIPE):  # Python itself ignores the second
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 - a fixed argument list, no shell
    while True:
        ready = select.select([lifeline, woken], [], [])[0]
        if lifeline in ready:
            os.killpg(0, signal.SIGKILL)
        os.read(woken, 512)
        ended, status = os.waitpid(program, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
