"""zattredis.config"""
