"""Writes a checkpoint of train.py as a Hugging Face folder: python export.py RUN FOLDER [--check].

`--check` needs transformers: it reads the folder there and compares logits and chat template with ours.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import messages
import names
import prompts
from evaluate import load
from vocabulary import END_OF_TEXT, TURN_END, TURN_START

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_json(path: Path, value: dict):
    path.write_text(json.dumps(value, indent=2) + "\n")


def export(run: Path, folder: Path):
    """The folder's five files; the weights are in bf16."""
    model, tokenizer = load(run)
    folder.mkdir(parents=True, exist_ok=True)
    start, end, pad = (tokenizer.token_to_id(token) for token in (TURN_START, TURN_END, END_OF_TEXT))
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", **model.shape.config(), "hidden_act": "silu",
        "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "initializer_range": 0.02, "pretraining_tp": 1,
        "rope_scaling": None, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": end, "pad_token_id": pad,
        "torch_dtype": "bfloat16", "use_cache": True})
    write_json(folder / "generation_config.json", {"do_sample": False, "eos_token_id": end, "pad_token_id": pad, "max_new_tokens": 120})
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "bos_token": None, "eos_token": TURN_END, "pad_token": END_OF_TEXT,
        "unk_token": None, "model_max_length": model.shape.max_position_embeddings, "clean_up_tokenization_spaces": False,
        "additional_special_tokens": [TURN_START, TURN_END], "chat_template": TEMPLATE})
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file({f"model.{name}": weight.to(torch.bfloat16).contiguous() for name, weight in model.state_dict().items()},
              folder / "model.safetensors", metadata={"format": "pt"})
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    print(f"{folder}: {size:,} bytes in all")


@torch.no_grad()
def check(folder: Path, rows: int = 20):
    """Our model and transformers give the same tokens, prompts and, to rounding, logits on held-out rows."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = load(folder)
    theirs, their_tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)
    worst = 0.0
    for index in range(rows):
        user = prompts.instruct(list(prompts.TASKS)[index % 5], messages.write(f"check-{index}", names.HELD).text)
        chat = their_tokenizer.apply_chat_template([{"role": "user", "content": user}], tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(chat, add_special_tokens=False).ids
        assert chat == prompts.chat(user) and ids == their_tokenizer(chat, add_special_tokens=False)["input_ids"], chat
        ids = torch.tensor([ids])
        worst = max(worst, float((model.logits(model.hidden(ids)) - theirs(ids).logits).abs().max()))
    print(f"transformers: same prompts and tokens on {rows} rows, logits within {worst:.1e}")
    assert worst < 1e-3


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    export(args.run, args.folder)
    if args.check:
        check(args.folder)


if __name__ == "__main__":
    main()
