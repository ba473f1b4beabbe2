"""The settings as a person reads them: --help, and the table in the docs."""

import textwrap
from dataclasses import fields
from pathlib import Path
from typing import Any

from library.settings.fields import FILE_OPTIONS, GROUPS, HINTS, RULES
from library.settings.rules import Rule

WIDTH = 100
INDENT = 8
UNSET = "unset"


def settings_table() -> str:
    """A Markdown table of every setting for each group: name, default, sentence."""
    blocks = [_markdown("Files of settings.", [(f"`{name}`", "", text) for name, text in FILE_OPTIONS.items()])]
    for group in GROUPS.values():
        rows = [(f"`{f.name}`", _code(f.default), _sentences(RULES[f.name])) for f in fields(group)]
        blocks.append(_markdown(_title(group), rows))
    return "\n".join(blocks)


def help_text(program: str) -> str:
    """What --help prints: every setting with its sentence, choices and default, in groups."""
    lines = [
        f"usage: python {program}.py --config FILE.toml [--name value ...]",
        "",
        "The command line beats the TOML file, which beats the defaults. A switch is written --name,",
        "--no_name or --name true. An empty value means unset.",
        "",
        "Files of settings:",
    ]
    for name, text in FILE_OPTIONS.items():
        lines += _entry(f"--{name} FILE", text)
    for group in GROUPS.values():
        lines += ["", f"{_title(group).rstrip('.')}:"]
        for field in fields(group):
            default = default_words(field.default)
            end = "" if default == UNSET else f" Default: {default}."
            lines += _entry(_usage(field.name), _sentences(RULES[field.name]) + end)
    return "\n".join(lines)


def default_words(default: Any) -> str:
    """A default as one would write it on the command line."""
    if isinstance(default, bool):
        return str(default).lower()
    if default in (None, (), ""):
        return UNSET
    if default == ",":
        return "a comma"
    if isinstance(default, tuple):
        return ",".join(str(part) for part in default)
    return str(default)


def _sentences(rule: Rule) -> str:
    """The setting's sentence, and its choices where it has several."""
    if len(rule.choices) < 2:
        return rule.help
    return f"{rule.help} One of {', '.join(str(choice) for choice in rule.choices)}."


def _title(group: type) -> str:
    return (group.__doc__ or "").strip()


def _code(default: Any) -> str:
    words = default_words(default)
    return words if words == UNSET or " " in words else f"`{words}`"


def _markdown(title: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [f"### {title.rstrip('.')}", "", "| setting | default | meaning |", "|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _usage(name: str) -> str:
    hint = HINTS[name]
    if hint is bool:
        return f"--{name}, --no_{name}"
    words = {
        int: "N",
        float: "X",
        Path: "PATH",
        tuple[int, int]: "N or W,H",
        tuple[float, float]: "LOW,HIGH",
        tuple[str, ...]: "KEY=VALUE ...",
    }
    kinds = [word for kind, word in words.items() if hint in (kind, kind | None)]
    return f"--{name} {kinds[0] if kinds else 'TEXT' if 'str' in str(hint) else 'N'}"


def _entry(head: str, text: str) -> list[str]:
    return [
        f"  {head}",
        *textwrap.wrap(text, WIDTH, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT),
    ]
