"""zattredis.cli"""
