"""Writes tokenizers/NAME.json: small trained tokenizers in the styles of published ones, with prompts' token ids.

Each has the tokenizer, its config with a chat template, and what transformers makes of conversations and of texts without
a template. No row here holds a marker, so that the ids must be the same.
"""

import json
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from chat import CORPUS, assistant, system, user
from models import write_json

CORPORA = [CORPUS, "über Maß und Größe: naïve café, 漢字 かな, 1234567 and 3.14!\n\n\tfor (i = 0; i < 3; i++) { x >>= 2; }\n"]

WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = WORDS + r"\p{N}{1,3}" + REST
QWEN = WORDS + r"\p{N}" + REST
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
)
TEKKEN = CASED + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = CASED + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ OUT + eos_token }}"
    "{% else %}{{ IN }}{% endif %}{% endfor %}"
)


def inst(before: str, after: str, answer: str) -> str:
    return INST.replace("IN }}", f"'{before}' + m.content + '{after}' }}}}").replace("OUT", f"'{answer}' + m.content")


def added(content: str, special: bool = True, **flags) -> AddedToken:
    return AddedToken(content, special=special, normalized=flags.pop("normalized", False), **flags)


def split(pattern: str, behavior: str = "isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior)


def byte_level(tokens: list, *before, normalizer=None, ignore_merges=False, use_regex=False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, last])
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPORA, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    add(tokenizer, tokens)
    return tokenizer


def pieces(tokens: list, normalizer=None, pre_tokenizer=None, first=("<unk>", "<s>", "</s>")) -> Tokenizer:
    """As sentencepiece models are converted: blanks are letters, unknown letters fall back to bytes."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(CORPORA[:1], trainers.BpeTrainer(vocab_size=200, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    letters = sorted(model["vocab"], key=model["vocab"].get)
    names = [*first, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocab = {name: id for id, name in enumerate(dict.fromkeys(names))}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    add(tokenizer, [*(added(name) for name in first), *tokens])
    return tokenizer


def add(tokenizer: Tokenizer, tokens: list) -> None:
    for token in tokens:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])


def before(tokenizer: Tokenizer, *names: str) -> Tokenizer:
    """Lets the post-processor put tokens before a text."""
    ids = [(name, tokenizer.token_to_id(name)) for name in names]
    own = processors.TemplateProcessing(single=[*names, "$A"], pair=[*names, "$A", "$B"], special_tokens=ids)
    byte_level = isinstance(tokenizer.post_processor, processors.ByteLevel)
    tokenizer.post_processor = processors.Sequence([tokenizer.post_processor, own]) if byte_level else own
    return tokenizer


def legacy() -> normalizers.Normalizer:
    return normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])


def styles() -> dict:
    """By name: the tokenizer, its BOS and EOS token, its chat template, and further keys of its config."""
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    llama3 = [added(f"<|{name}|>") for name in ("begin_of_text", "start_header_id", "end_header_id", "eot_id")]
    chatml = [added(name) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    think = [added(name, special=False) for name in ("<think>", "</think>")]
    phi3 = [added(f"<|{name}|>", rstrip=True) for name in ("user", "assistant", "system", "end")]
    mistral = [added(name) for name in ("[INST]", "[/INST]")]
    glm = [added(name) for name in ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")]
    blanks = [added("\n" * n, special=False) for n in (2, 3)] + [added("▁" * n, special=False) for n in (2, 3)]
    deepseek = [added("<｜begin▁of▁sentence｜>"), added("<｜end▁of▁sentence｜>")]
    deepseek += [added(f"<｜{name}｜>", special=False) for name in ("User", "Assistant")]
    harmony = [added(f"<|{name}|>") for name in ("startoftext", "start", "message", "end", "channel", "return")]
    return {
        "llama-2": (before(pieces([], legacy()), "<s>"), "<s>", "</s>", inst("[INST] ", " [/INST]", " "), {"add_bos_token": True}),
        "llama-3": (
            before(byte_level(llama3, split(LLAMA3), ignore_merges=True), "<|begin_of_text|>"),
            "<|begin_of_text|>",
            "<|eot_id|>",
            "{% for m in messages %}{% set content = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim"
            " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
            {},
        ),
        "mistral-v1": (before(pieces([], legacy()), "<s>"), "<s>", "</s>", inst("[INST] ", " [/INST]", ""), {}),
        "mistral-v3": (before(pieces(mistral, None, metaspace), "<s>"), "<s>", "</s>", inst("[INST] ", "[/INST]", " "), {}),
        "mistral-tekken": (
            before(byte_level([added("<s>"), added("</s>"), *mistral], split(TEKKEN), ignore_merges=True), "<s>"),
            "<s>",
            "</s>",
            inst("[INST]", "[/INST]", ""),
            {},
        ),
        "qwen2.5": (byte_level(chatml, split(QWEN), normalizer=normalizers.NFC()), None, "<|im_end|>", CHATML, {"add_bos_token": False}),
        "qwen3": (
            byte_level([*chatml, *think], split(QWEN), normalizer=normalizers.NFC()),
            None,
            "<|im_end|>",
            CHATML.replace("m.content", "m.content.split('</think>')[-1].lstrip('\n')"),
            {},
        ),
        "gemma": (
            before(
                pieces(
                    [added("<start_of_turn>"), added("<end_of_turn>"), *blanks],
                    normalizers.Replace(" ", "▁"),
                    pre_tokenizers.Split(" ", "merged_with_previous"),
                    ("<pad>", "<eos>", "<bos>", "<unk>"),
                ),
                "<bos>",
            ),
            "<bos>",
            "<eos>",
            "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + (m.role | replace('assistant', 'model')) + '\n'"
            " + m.content | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
            {},
        ),
        "phi-3": (
            before(pieces([added("<|endoftext|>"), *phi3], legacy()), "<s>"),
            "<s>",
            "<|endoftext|>",
            "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
            {"add_bos_token": False},
        ),
        "glm": (
            before(byte_level(glm, split(LLAMA3)), "[gMASK]", "<sop>"),
            None,
            "<|endoftext|>",
            "[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}",
            {},
        ),
        "smollm2": (
            byte_level(chatml, pre_tokenizers.Digits(individual_digits=True), use_regex=True),
            "<|im_start|>",
            "<|im_end|>",
            "{% for m in messages %}{% if loop.first and messages[0].role != 'system' %}"
            "{{ '<|im_start|>system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}" + CHATML.removeprefix("{% for m in messages %}"),
            {},
        ),
        "deepseek-distill": (
            byte_level(
                [*deepseek, *think],
                split(r"\p{N}{1,3}"),
                split("[一-龥぀-ゟ゠-ヿ]+"),
                split(r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
                normalizer=normalizers.Sequence([]),
            ),
            "<｜begin▁of▁sentence｜>",
            "<｜end▁of▁sentence｜>",
            "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
            "{{ '<｜User｜>' + m.content }}{% else %}{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}",
            {"add_bos_token": True},
        ),
        "gpt-oss": (
            byte_level(harmony, split(O200K), ignore_merges=True),
            "<|startoftext|>",
            "<|return|>",
            "{% for m in messages %}<|start|>{{ m.role }}{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>"
            "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}",
            {},
        ),
    }


TEXTS = [
    "What is the name of the river?",
    "  leading and trailing  \n\n",
    "über Maß 漢字 🙂 12345 café",
    "for (int i = 0; i < 3; i++) {\n\treturn a[i] >> 2;\n}",
    "a <b> c | d </i>\r\n\r\nx   y\n\n\n\nz",
    "",
    "I'LL don't CamelCase HTTPServer ▁ a▁b",
]
CONVERSATIONS = [[user(text)] for text in TEXTS] + [
    [system("You are a helpful assistant."), user(" How many sacks? ")],
    [user("2+2?"), assistant("four\n\n"), user("sure? 1234567")],
    [user("\nthe mill"), assistant("  yes"), user("")],
]


def write(out: Path) -> None:
    folder = out / "tokenizers"
    folder.mkdir(parents=True, exist_ok=True)
    for name, (tokenizer, bos, eos, template, further) in styles().items():
        named = {"bos_token": bos, "eos_token": eos} | further
        config = named | {"chat_template": template, "clean_up_tokenization_spaces": False, "tokenizer_class": "PreTrainedTokenizerFast"}
        with tempfile.TemporaryDirectory() as saved:
            Path(saved, "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
            write_json(Path(saved, "tokenizer_config.json"), config)
            hf = PreTrainedTokenizerFast.from_pretrained(saved)
        conversations = [
            {"messages": messages, "ids": hf.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)}
            for messages in CONVERSATIONS
        ]
        texts = [{"text": text, "ids": hf(text).input_ids} for text in TEXTS]
        whole = {"tokenizer": json.loads(tokenizer.to_str()), "tokenizer_config": config}
        whole |= {"conversations": conversations, "texts": texts}
        text = json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
