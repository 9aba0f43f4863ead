"""A GGUF file as a Hugging Face directory, for engines that read no GGUF. usage: convert_model.py FILE DIRECTORY"""

import pathlib
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

source, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
