"""A job in several processes: by `accelerate launch`, on this machine or on each node of a SLURM job.

python -m dermaflux.launch OPTIONS...: `accelerate launch` that ends when the process that started it does. However a job
ends, kill -9 included, its launcher goes within a second, and then what that has started (dermaflux.job.launched).
"""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from dermaflux.errors import UserError
from dermaflux.files import read_json, write_json
from dermaflux.job import explained, launched, show

LIBRARIES = Path(__file__).parents[1]


def launch(module, arguments, folder, processes, nodes=1, threads=1, gpus=True):
    """Run `python -m MODULE FOLDER/arguments.json` in several processes that can join each other, and wait for all.

    Args:
        module: name of a library module that calls `launched_job`.
        arguments: what to do, a dict for JSON; `threads` is added, the CPU threads of one process.
        folder: where the processes find it and leave an error; emptied first. All nodes must see it.
        processes: how many in all, the same number on each node.
        nodes: of the SLURM job that this runs in.
        threads: CPU threads on each node.
        gpus: whether each process has a GPU.

    Raises:
        UserError: as raised by the first process that failed.
        RuntimeError: a process failed otherwise; its traceback is in the log.
    """
    if processes % nodes:
        raise UserError(f"{processes} GPUs cannot be shared out evenly among {nodes} nodes: change lora.gpus")
    folder, per_process = Path(folder), max(1, threads * nodes // processes)
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / "arguments.json", {**arguments, "threads": per_process})
    command = _command(processes, nodes, threads, gpus) + [
        "--module",
        f"dermaflux.{module}",
        str(folder / "arguments.json"),
    ]
    paths = os.pathsep.join(filter(None, [str(LIBRARIES), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(per_process)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as started:
        try:
            show(started.stdout)
        except BaseException:
            started.terminate()
            raise
    if (folder / "error").exists():
        raise UserError((folder / "error").read_text())
    if started.returncode:
        raise RuntimeError(f"a process of {module} failed (exit code {started.returncode})")
    shutil.rmtree(folder)


def _command(processes, nodes, threads, gpus):
    """The launcher's command, without what it launches."""
    launcher = [
        sys.executable, "-m", "dermaflux.launch", "--multi_gpu", "--num_processes", str(processes),
        "--num_machines", str(nodes), "--mixed_precision", "no", "--dynamo_backend", "no",
    ]  # fmt: skip
    if nodes == 1:
        return [*launcher, "--main_process_port", "0"]
    # this job's own machine is the first of its nodes, where srun starts the task with SLURM_NODEID 0
    step = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={threads}"]
    step += ["--kill-on-bad-exit=1", *([f"--gpus={processes}"] if gpus else [])]
    address = ["--same_network", "--main_process_ip", socket.gethostname(), "--main_process_port", str(_free_port())]
    return [*step, *launcher, *address]


def _free_port():
    with socket.socket() as free:
        free.bind(("", 0))
        return free.getsockname()[1]


@contextmanager
def launched_job(path):
    """Around the work of a launched process: yields the arguments that lie at `path`.

    The first process whose error explains itself leaves the message for the job; the launcher ends the others.
    """
    launched()
    try:
        yield read_json(path)
    except Exception as error:
        if message := explained(error):
            _leave(Path(path).with_name("error"), message)
        raise


def _leave(path, message):
    """Write the file `path` unless another process has."""
    try:
        with open(path, "x") as file:
            file.write(message)
    except FileExistsError:
        pass


def main(options):
    """`accelerate launch` with these options (list of str), as the machine of the number that srun gave."""
    launched()
    from accelerate.commands.launch import launch_command, launch_command_parser

    import dermaflux.torch_setup  # noqa: F401 - before accelerate, which may import torchvision

    machine = ["--machine_rank", os.environ.get("SLURM_NODEID", "0")]
    launch_command(launch_command_parser().parse_args([*machine, *options]))


if __name__ == "__main__":
    main(sys.argv[1:])
