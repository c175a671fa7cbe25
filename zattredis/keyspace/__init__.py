"""zattredis.keyspace"""
