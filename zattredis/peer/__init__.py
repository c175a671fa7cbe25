"""zattredis.peer"""
