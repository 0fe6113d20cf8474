"""python -m dermaflux.lora_worker ARGUMENTS.json: one of the processes that train a LoRA together, see dermaflux.launch."""

import sys

from dermaflux.launch import launched_job

if __name__ == "__main__":
    with launched_job(sys.argv[1]) as arguments:
        from dermaflux.lora import train_lora
        from dermaflux.ranks import joined
        from dermaflux.torch_setup import torch

        torch.set_num_threads(arguments.pop("threads"))
        with joined(arguments["device"]) as ranks:
            train_lora(**arguments, ranks=ranks)
