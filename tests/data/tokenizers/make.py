"""Trains the small tokenizers of this folder on the documentation and the labelled sentences of this repository, one of
each kind that models have. Needs `pip install tokenizers`. usage: make.py"""

import json
import pathlib

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def texts():
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/clients/*.py")]):
        yield path.read_text()
    for path in sorted((HERE.parent / "scan").glob("*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)["text"]


def save(name, tokenizer):
    tokenizer.save(str(HERE / f"{name}.json"), pretty=False)


# As GPT-2, Qwen, Llama 3: bytes, words told apart by a regular expression, ChatML's special tokens.
tokenizer = Tokenizer(models.BPE())
tokenizer.normalizer = normalizers.NFC()
tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
    pre_tokenizers.Split(
        Regex(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "isolated",
    ),
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
])
tokenizer.decoder = decoders.ByteLevel()
special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
trainer = trainers.BpeTrainer(
    vocab_size=1500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
tokenizer.train_from_iterator(texts(), trainer)
save("byte-level", tokenizer)

# As Llama 2 and Mistral before Tekken: a space is a letter, one is put before every text, unknown letters are bytes.
tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
trainer = trainers.BpeTrainer(
    vocab_size=1500,
    special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
    limit_alphabet=200,
    show_progress=False,
)
words = Tokenizer(models.BPE())
words.normalizer = tokenizer.normalizer
words.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
words.train_from_iterator(texts(), trainer)
state = json.loads(words.to_str())
model = json.loads(tokenizer.to_str())
model["model"]["vocab"], model["model"]["merges"] = state["model"]["vocab"], state["model"]["merges"]
model["added_tokens"] = [token for token in state["added_tokens"] if not token["content"].startswith("<0x")]
(HERE / "byte-fallback.json").write_text(json.dumps(model, ensure_ascii=False))

# As T5 and XLM-R: Unigram.
tokenizer = Tokenizer(models.Unigram())
tokenizer.normalizer = normalizers.NFKC()
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
trainer = trainers.UnigramTrainer(
    vocab_size=1500, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
)
# The characters of all languages together are more than that.
tokenizer.train_from_iterator((text for text in texts() if text.isascii()), trainer)
save("unigram", tokenizer)

# As BERT, and most models of embeddings: WordPiece.
tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
trainer = trainers.WordPieceTrainer(
    vocab_size=1500, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], limit_alphabet=300, show_progress=False
)
tokenizer.train_from_iterator(texts(), trainer)
tokenizer.post_processor = processors.TemplateProcessing(
    single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
)
save("wordpiece", tokenizer)
