"""A vision-language model in this process, one image at a time: slow, plain, and what servers are held against."""

import io

from dermaflux.caption_replies import Reply


class TransformersCaptioner:
    """The model in `folder`, in the layout of the Hugging Face hub, with its own processor and chat template.

    Args:
        folder: path of the model.
        device: cuda | cpu; precision: bf16 | fp32.

    Raises:
        UserError: there is no GPU where one was promised.
    """

    def __init__(self, folder, device, precision):
        from dermaflux.torch_setup import DTYPES, torch_device  # before transformers

        # isort: split
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.device = torch_device(device)
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=DTYPES[precision], local_files_only=True)
        self.model = model.to(self.device).eval()

    def inputs(self, jpeg, prompt):
        """What the model is given for an image (bytes) and a prompt: tensors by name, with a batch axis of 1."""
        from PIL import Image

        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        # the template has written the first token already: a second one would change the texts
        return self.processor(images=image, text=text, add_special_tokens=False, return_tensors="pt").to(self.device)

    def ask(self, jpeg, prompt, temperature, seed, max_tokens):
        """The Reply to an image (JPEG bytes) and a prompt; temperature 0 takes the likeliest token each time."""
        from dermaflux.torch_setup import torch

        inputs = self.inputs(jpeg, prompt)
        sampling = (
            {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
            if temperature
            else {"do_sample": False}
        )
        torch.manual_seed(seed)
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=max_tokens, **sampling)[0]
        prompt_tokens = inputs["input_ids"].shape[1]
        new = tokens[prompt_tokens:]
        ends = self.model.generation_config.eos_token_id
        ended = int(new[-1]) in (ends if isinstance(ends, list) else [ends])
        text = self.processor.tokenizer.decode(new, skip_special_tokens=True)
        return Reply(text, "stop" if ended else "length", prompt_tokens, len(new))
