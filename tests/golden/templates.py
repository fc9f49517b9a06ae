"""Writes templates/*.json: chat templates in the usual idioms, and what transformers renders from them.

The templates are our own; each uses the constructs that published templates of its kind use.
"""

import datetime
from pathlib import Path

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from models import write_json

NOW = datetime.datetime(2026, 3, 7, 9, 5)  # what strftime_now reads

USER = {"role": "user", "content": " What is a mill?  "}
ASSISTANT = {"role": "assistant", "content": "A place that grinds grain."}
AGAIN = {"role": "user", "content": 'Who <owns> it & "why"?\nÅse\'s 🌾'}
SYSTEM = {"role": "system", "content": "Be brief.\n"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": " Two."}]}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "type": "function",
            "function": {"name": "weigh", "arguments": {"sacks": 7, "grain": "hvete & <rug>", "dry": True}},
        },
        {"type": "function", "function": {"name": "price", "arguments": {"per": None, "tonnes": 1.5}}},
    ],
}
RESULTS = [{"role": "tool", "content": "350 kg"}, {"role": "tool", "content": '{"nok": 4}'}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weigh",
            "description": 'Weighs sacks: "kg" & <g>, på norsk.',
            "parameters": {
                "type": "object",
                "properties": {"sacks": {"type": "integer"}},
                "required": ["sacks"],
            },
        },
    }
]

PLAIN = [[USER], [SYSTEM, USER], [USER, ASSISTANT, AGAIN], [SYSTEM, USER, ASSISTANT, AGAIN, ASSISTANT]]
WRONG_ORDER = [[ASSISTANT, USER], [USER, USER], [SYSTEM, USER, ASSISTANT, ASSISTANT]]

# Strict turns; the system text goes into the first user turn; every block strips whitespace.
LLAMA2 = r"""
{%- set turns = messages[1:] if messages[0]['role'] == 'system' else messages -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{- raise_exception('Turn ' ~ loop.index ~ ' may not be from ' ~ message['role']) -}}
    {%- endif -%}
    {%- if message['role'] == 'assistant' -%}
        {{- ' ' ~ message['content'].strip() ~ ' ' ~ eos_token -}}
    {%- else -%}
        {{- bos_token ~ '[INST] ' -}}
        {%- if loop.first and turns | length < messages | length -%}
            {{- '<<SYS>>\n' + messages[0].content.strip() + '\n<</SYS>>\n\n' -}}
        {%- endif -%}
        {{- message.content.strip() + ' [/INST]' -}}
    {%- endif -%}
{%- endfor -%}
"""

# Text between the blocks; the blank lines after a header belong to the template, and trim_blocks removes one newline.
LLAMA3 = """{{ bos_token }}{% for message in messages %}
<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>{% endfor %}
{% if add_generation_prompt %}
<|start_header_id|>assistant<|end_header_id|>

{{ '' }}{% endif %}"""

# No dashes: only trim_blocks and lstrip_blocks remove spaces and newlines around blocks.
CHATML = """{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
<|im_start|>system
You are a miller.<|im_end|>
    {% endif %}
<|im_start|>{{ message['role'] }}
{{ message['content'] }}<|im_end|>
{% endfor %}
{% if add_generation_prompt is defined and add_generation_prompt %}
<|im_start|>assistant
{% endif %}
"""

# The system text goes into the last user turn; content may be a list of parts; roles are counted in a namespace.
MISTRAL = r"""{%- if messages[0].role == "system" %}
    {%- set first, turns = messages[0].content, messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{%- set asked = turns | selectattr("role", "equalto", "user") | list %}
{%- set seen = namespace(users=0, answers=0) %}
{{- bos_token }}
{%- for message in turns %}
    {%- if message.role == "user" %}
        {%- set seen.users = seen.users + 1 %}
        {%- if seen.users != seen.answers + 1 %}{{ raise_exception("Two users in a row") }}{% endif %}
        {{- "[INST]" }}
        {%- if first is defined and message == asked[-1] %}{{ first ~ "\n\n" }}{% endif %}
        {%- if message.content is string %}
            {{- message.content }}
        {%- else %}
            {%- for part in message.content %}
                {%- if part.type not in ["text"] %}{{ raise_exception("Not text: " + part.type) }}{% endif %}
                {{- part["text"] }}
            {%- endfor %}
        {%- endif %}
        {{- "[/INST]" }}
    {%- elif message.role == "assistant" %}
        {%- set seen.answers = seen.answers + 1 %}
        {%- if seen.users != seen.answers %}{{ raise_exception("An answer without a question") }}{% endif %}
        {{- " " + message.content | trim + eos_token }}
    {%- else %}
        {{- raise_exception("Unknown role: " ~ message.role) }}
    {%- endif %}
{%- endfor %}
"""

# Tools as JSON, calls and their results, thoughts removed from old answers, string methods, previous and next messages.
QWEN_TOOLS = r"""{%- macro block(role, text) %}
    {{- '<|im_start|>' ~ role ~ '\n' ~ text ~ '<|im_end|>\n' }}
{%- endmacro %}
{%- macro call(function) %}
    {{- '<call>' ~ function.name ~ ' ' }}
    {{- function.arguments if function.arguments is string else function.arguments | tojson }}
    {{- '</call>' }}
{%- endmacro %}
{%- set given = messages[0].content if messages[0].role == 'system' else 'You are a miller.' %}
{%- if tools %}
    {%- set listed = namespace(text='') %}
    {%- for tool in tools %}
        {%- set listed.text = listed.text ~ '\n- ' ~ (tool.function | tojson) %}
    {%- endfor %}
    {{- block('system', given ~ '\nTools:' ~ listed.text) }}
    {%- for name, rule in tools[0].function.parameters.properties.items() %}
        {{- '(' ~ name ~ ': ' ~ rule.type | title ~ ')\n' }}
    {%- endfor %}
{%- else %}
    {{- block('system', given) }}
{%- endif %}
{%- for message in messages if message.role != 'system' %}
    {%- if message.role == 'tool' %}
        {%- if loop.previtem is not defined or loop.previtem.role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
        {{- '\n<result>' + message.content + '</result>' }}
        {%- if loop.nextitem is not defined or loop.nextitem.role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
    {%- elif message.role == 'assistant' %}
        {%- set text = message.content or '' %}
        {%- if text.startswith('<think>') and '</think>' in text %}
            {%- set text = text.split('</think>')[-1].lstrip('\n') if not loop.last else text %}
        {%- elif message.reasoning_content is defined and message.reasoning_content is not none and loop.last %}
            {%- set text = '<think>\n' + message.reasoning_content.strip('\n') + '\n</think>\n\n' + text %}
        {%- endif %}
        {%- set calls = namespace(text=text) %}
        {%- for used in message.tool_calls or [] %}
            {%- set calls.text = calls.text ~ ('\n' if calls.text else '') ~ call(used.function) %}
        {%- endfor %}
        {{- block(message.role, calls.text) }}
    {%- else %}
        {{- block(message.role, message.content) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}
{%- endif %}
"""

# The date, tracked assistant text, a comment, and loop controls.
DATED = r"""{%- set today = date_string if date_string is defined else strftime_now("%d %b %Y") %}
{# The date comes from the clock unless date_string is given. #}
<|system|>Today is {{ today }}, or {{ strftime_now('%Y-%m-%d') }}, {{ strftime_now("%A %-d %B %H:%M") }}
{% for message in messages %}
    {% if message.role == 'system' %}{% continue %}{% endif %}
    {% if message['role'] == 'assistant' %}
<|assistant|>
        {%- generation %}
{{ message['content'] }}{{ eos_token }}
        {% endgeneration %}
    {% else %}
<|{{ message.role }}|>{{ message['content'] | trim | upper }}
    {% endif %}
    {% if loop.index >= 4 %}{% break %}{% endif %}
{% endfor %}
{%- if add_generation_prompt %}
<|assistant|>{% generation %}{% endgeneration %}

{%- endif %}
"""

THOUGHT = {"role": "assistant", "content": "<think>\nSeven.\n</think>\n\nIt is 7."}
REASONED = {"role": "assistant", "content": "It is 7.", "reasoning_content": "\nSeven.\n"}

WITH_TOOLS = [[AGAIN, CALL, *RESULTS], [SYSTEM, AGAIN, CALL, *RESULTS, ASSISTANT]]
THINKING = [[AGAIN, THOUGHT], [AGAIN, THOUGHT, AGAIN], [AGAIN, REASONED]]
PICTURE = {"role": "user", "content": [{"type": "image"}]}


def each(conversations: list, **variables) -> list[tuple]:
    return [(messages, variables) for messages in conversations]


# name: (template, bos_token, eos_token, (conversation, more variables) of each case)
TEMPLATES = {
    "llama2": (LLAMA2, "<s>", "</s>", each(PLAIN + WRONG_ORDER)),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", each(PLAIN)),
    "chatml": (CHATML, None, "<|im_end|>", each(PLAIN)),
    "mistral": (
        MISTRAL,
        "<s>",
        "</s>",
        each(PLAIN + WRONG_ORDER + [[PARTS], [PICTURE], [USER, ASSISTANT, RESULTS[0]]]),
    ),
    "qwen-tools": (
        QWEN_TOOLS,
        None,
        "<|im_end|>",
        each(PLAIN + WITH_TOOLS + THINKING)
        + each([PLAIN[1], *WITH_TOOLS], tools=TOOLS)
        + each(PLAIN[:2], enable_thinking=False),
    ),
    "dated-generation": (DATED, "<s>", "</s>", each(PLAIN) + each(PLAIN[:1], date_string="1 Jan 2030")),
}


class FixedClock(datetime.datetime):
    """Stands in for `datetime` where transformers reads the time."""

    @classmethod
    def now(cls, tz=None):
        return NOW


def render(tokenizer, messages: list[dict], variables: dict) -> dict:
    """One case: what goes in, and the text or the error that comes out."""
    generate = messages[-1]["role"] != "assistant"
    case = {"messages": messages, "add_generation_prompt": generate, "variables": variables}
    try:
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generate, **variables
        )
        return case | {"expected": text}
    except TemplateError as error:
        return case | {"error": str(error)}


def write(out: Path) -> None:
    folder = out / "templates"
    folder.mkdir(parents=True, exist_ok=True)
    chat_template_utils.datetime = FixedClock
    for name, (template, bos, eos, inputs) in TEMPLATES.items():
        tokens = {"bos_token": bos, "eos_token": eos}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.BPE()),
            chat_template=template,
            **{k: v for k, v in tokens.items() if v},
        )
        cases = [render(tokenizer, messages, more) for messages, more in inputs]
        record = {"name": name, "template": template, **tokens, "now": NOW.isoformat(), "cases": cases}
        write_json(folder / f"{name}.json", record)
