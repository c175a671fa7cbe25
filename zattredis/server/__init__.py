"""zattredis.server"""
