"""zattredis.resp"""
