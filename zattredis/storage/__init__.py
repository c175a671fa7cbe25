"""zattredis.storage"""
