"""Deliberate faults, and the proof that the tests notice each of them.

`edits` puts a fault into the running process: it takes a function's source, replaces one piece of it, and swaps the
function's code; production code has no switch for it. A piece that is not there any more fails loudly, so a mutant
always fits the code it is about. `catalogue` names every fault and its catcher, `catchers` run them, `plugin` is for
catchers that are ordinary tests. `python -m tests.mutants [NAME …]` shows what catches what, and how quickly.

A new guard in the core, the log or the proposals gets a mutant here that removes it.
"""
