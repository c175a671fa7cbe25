"""Whatever arrives is answered by an error of the protocol, costs bounded memory and ends nothing.

`grammars` make inputs out of a source of randomness: mostly right, wrong in one place or all over. `targets` feed them
to the parsers and hold what must hold. Three engines drive both:

- hypothesis, in the default run (`test_fuzz.py`): few inputs, shrunk when one fails;
- `python -m tests.fuzz TARGET --inputs N`: as many as one likes, from seeds; one that fails is printed with its seed;
- `python -m tests.fuzz TARGET --engine atheris` (`pip install atheris`): libFuzzer, guided by coverage.
"""
