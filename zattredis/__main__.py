"""`python -m zattredis` is `zattd`."""

from zattredis.cli.zattd import main

if __name__ == "__main__":
    raise SystemExit(main())
