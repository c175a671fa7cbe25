"""`zattctl completion`: what a shell needs to complete zattctl's words, made from the parsers themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any, Final

from zattredis.cli.arguments import EXIT_DONE
from zattredis.cli.ctl.frame import CtlParser, Subcommand, make_parser

SHELLS: Final = ("bash", "zsh", "fish")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="which shell")


def script(shell: str, subcommands: Sequence[Subcommand]) -> str:
    """Return the completion script for a shell."""
    parser = make_parser(subcommands)
    words = {name: list(_words(job)) for name, job in parser.jobs.items()}
    common = [flag for flag, _ in _flags(parser)]
    helps = {each.name: each.help for each in subcommands}
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](words, common, helps)


Words = dict[str, list[tuple[str, str]]]


def _flags(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in parser._actions:
        for flag in action.option_strings:
            if flag.startswith("--"):
                yield flag, (action.help or "").replace("%%", "%")


def _words(job: CtlParser) -> Iterator[tuple[str, str]]:
    """Yield what may follow a subcommand, with its help: flags, actions of its own, fixed choices."""
    yield from _flags(job)
    for action in job._actions:
        if isinstance(action, argparse._SubParsersAction):
            nested: Any = action.choices
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, parser in nested.items():
                yield name, helps.get(name, "")
                yield from (each for each in _flags(parser) if each not in set(_flags(job)))
        elif not action.option_strings and action.choices:
            yield from ((str(choice), action.help or "") for choice in action.choices)


def _bash(words: Words, common: list[str], _helps: dict[str, str]) -> str:
    cases = "\n".join(
        f"    {name}) words='{' '.join(dict.fromkeys(word for word, _ in found))}' ;;" for name, found in words.items()
    )
    return f"""\
# bash completion of zattctl:  source <(zattctl completion bash)
_zattctl() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" job= word words
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case " {" ".join(words)} " in *" $word "*) job=$word; break ;; esac
  done
  case "$job" in
{cases}
    *) words='{" ".join([*words, *common])}' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  case "$job" in backup|restore|verify|recover) COMPREPLY+=($(compgen -f -- "$current")) ;; esac
}}
complete -o filenames -F _zattctl zattctl
"""


def _quoted(text: str) -> str:
    return text.replace("'", "’").replace("[", "(").replace("]", ")").replace(":", ",")


def _zsh(words: Words, common: list[str], helps: dict[str, str]) -> str:
    jobs = "\n".join(f"    '{name}:{_quoted(text)}'" for name, text in helps.items())
    cases = []
    for name, found in words.items():
        lines = "\n".join(f"        '{word}:{_quoted(text)}'" for word, text in dict(found).items())
        cases.append(f"    {name})\n      found=(\n{lines}\n      ) ;;")
    return f"""\
#compdef zattctl
# zsh completion of zattctl:  zattctl completion zsh > "${{fpath[1]}}/_zattctl"
_zattctl() {{
  local -a typed=(${{words[2,CURRENT-1]}}) jobs found
  local word job=
  jobs=(
{jobs}
  )
  for word in $typed; do
    if (( ${{${{jobs%%:*}}[(Ie)$word]}} )); then job=$word; break; fi
  done
  case "$job" in
{chr(10).join(cases)}
    *) found=($jobs {" ".join(common)}) ;;
  esac
  _describe 'zattctl' found
  case "$job" in backup|restore|verify|recover) _files ;; esac
}}
compdef _zattctl zattctl
"""


def _fish(words: Words, common: list[str], helps: dict[str, str]) -> str:
    lines = ["# fish completion of zattctl:  zattctl completion fish | source"]
    none = f"not __fish_seen_subcommand_from {' '.join(words)}"
    for name, text in helps.items():
        lines.append(f"complete -c zattctl -f -n '{none}' -a {name} -d '{_quoted(text)}'")
    lines += [f"complete -c zattctl -n '{none}' -l {flag.removeprefix('--')}" for flag in common]
    for name, found in words.items():
        files = "" if name in ("backup", "restore", "verify", "recover") else " -f"
        for word, text in dict(found).items():
            what = f"-l {word.removeprefix('--')}" if word.startswith("--") else f"-a {word}"
            lines.append(
                f"complete -c zattctl{files} -n '__fish_seen_subcommand_from {name}' {what} -d '{_quoted(text)}'"
            )
    return "\n".join(lines) + "\n"


def subcommand(others: Sequence[Subcommand]) -> Subcommand:
    """Return the subcommand that completes itself and `others`."""

    def run(arguments: argparse.Namespace) -> int:
        print(script(arguments.shell, (*others, itself)), end="")
        return EXIT_DONE

    itself = Subcommand(
        name="completion",
        help="print the completion of zattctl for a shell",
        examples="source <(zattctl completion bash)                          bash, also in ~/.bashrc\n"
        'zattctl completion zsh > "${fpath[1]}/_zattctl"            zsh\n'
        "zattctl completion fish > ~/.config/fish/completions/zattctl.fish",
        arguments=_arguments,
        run=run,
        online=False,
    )
    return itself
