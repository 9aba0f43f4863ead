"""A GGUF file as a Hugging Face directory, for engines that read no GGUF. usage: convert_model.py FILE DIRECTORY"""

import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
quantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
# transformers saves no model that came from a quantised file, though its weights have been unpacked by then: they
# are moved into a model that never was one.
config = quantised.config
if hasattr(config, "quantization_config"):
    del config.quantization_config
config.dtype = torch.bfloat16
plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
plain.load_state_dict({name: tensor.to(torch.bfloat16) for name, tensor in quantised.state_dict().items()}, strict=True)
plain.save_pretrained(target)
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
