"""server_guard.py FD COMMAND...: runs COMMAND until it ends or the pipe FD closes, then kills all that it started.

Stands between a caption job and its server. However the job ends, kill -9 included, the kernel closes its end of the pipe;
a server that went on would keep the GPU. It has to lead a process group of its own, which is what is killed.
"""

import os
import select
import signal
import subprocess
import sys


def main():
    pipe, command = int(sys.argv[1]), sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda *_: None)  # meant for the server, which gets it too; exec resets it there
    try:
        server = subprocess.Popen(command)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error}", flush=True)
        sys.exit(127)
    while server.poll() is None and not select.select([pipe], [], [], 0.2)[0]:
        pass
    if server.returncode is not None:
        print(f"the server ended with exit code {server.returncode}", flush=True)
    os.killpg(0, signal.SIGKILL)  # its engine and workers outlive it otherwise; and ourselves


if __name__ == "__main__":
    main()
