"""zattredis.cli.moving: what `zattctl import` and `zattctl export` are made of.

    rdb_values     where a value in an RDB file ends, without decoding it
    rdb_file       reading an RDB file: its keys as RESTORE wants them
    rdb_writer     writing an RDB file from dumps
    pipe           a blocking connection to any Redis server, pipelined, by URL
    sources        keys out of a file or out of a live server, in batches
    plain          the same value in a form that costs a cluster less to read
    loader         batches into a cluster by RESTORE, several under way; what came of each key
    position       where an import stands, kept in a file, for the next try
    verifying      comparing two dumps by the values in them, a source with a cluster

Invariants
- A large value is not decoded on the way: it leaves a file, or a DUMP, as the bytes that RESTORE takes, with its
  checksum. A small one is made plain, which makes an import half as fast again; `--verify` compares the values.
- A file is read through, and its checksum compared, before the first key is written anywhere.
- An import may be repeated: a key that is there already with the same value and expiry is no error.
- Memory is bounded by the batches under way, whatever the size of the file or of the other server.
"""
