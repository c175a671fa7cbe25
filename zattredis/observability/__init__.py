"""zattredis.observability"""
