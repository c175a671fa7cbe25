"""`python -m zattredis` is `zattd`."""

from zattredis.cli.entry import zattd

if __name__ == "__main__":
    raise SystemExit(zattd())
