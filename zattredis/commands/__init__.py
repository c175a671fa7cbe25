"""zattredis.commands"""
